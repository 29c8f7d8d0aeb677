"""A Django project for the framework tests: its settings, and its `wsgi` and `asgi` applications.

The routes are in django_views, or django_async_views where COATCHECK_TEST_APP names `asgi`. The tests of Django's
own features, in one process, override the settings they need: the first import of this module settles the others.
"""

import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from tests.frameworks.apps.common import COOKIE, HTTPS, POLICY

_SERVED_AS_ASGI = os.environ.get("COATCHECK_TEST_APP", "").endswith(":asgi")

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        COATCHECK={"POLICY": POLICY, "COOKIE": COOKIE},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "coatcheck.django",
        ],
        LOGGING_CONFIG=None,
        MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
        MIDDLEWARE=[
            "coatcheck.django.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="tests.frameworks.apps." + ("django_async_views" if _SERVED_AS_ASGI else "django_views"),
        SECRET_KEY="the tests' own and nobody's secret, long enough for Django",
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None,
        SESSION_ENGINE="coatcheck.django",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        USE_TZ=True,
    )
    django.setup()

wsgi = get_wsgi_application()
asgi = get_asgi_application()
