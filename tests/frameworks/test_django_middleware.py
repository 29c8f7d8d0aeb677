"""Django's requests and responses: the middleware, its answers to failures, the settings, the checks, the admin."""

import re

import pytest
from django.conf import settings
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware as DjangoMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpResponse
from django.test import Client, RequestFactory, modify_settings, override_settings

from coatcheck import (
    AtLimit,
    ConfigurationError,
    CookiePolicy,
    SessionPolicy,
    SourceLimited,
    SourcePolicy,
    StoreUnavailable,
)
from coatcheck.django import SessionMiddleware, SessionStore, async_sessions, sessions
from coatcheck.django.configuration import configuration
from tests.frameworks.fix_django import Visitor

pytestmark = pytest.mark.django

DJANGO_OWN = "django.contrib.sessions.middleware.SessionMiddleware"
NOWHERE = {"URL": "unix:///nonexistent/socket"}


def put(request):
    """Write something."""
    request.session["a"] = 1
    return HttpResponse()


def see(request):
    """Read something."""
    return HttpResponse(str(request.session.get("a")))


def teapot_view(request, error):
    """Answer a failure, but for a limit."""
    return HttpResponse(type(error).__name__, status=418) if "Limit" not in type(error).__name__ else None


def answer(view, *, cookie="", secure=True, host="example.com"):
    """Send a request, as from a network, through the middleware to *view*."""
    request = RequestFactory().get("/", secure=secure, headers={"Host": host, **({"Cookie": cookie} if cookie else {})})
    return SessionMiddleware(view)(request)


def lines(response):
    """Give the Set-Cookie headers, as Django's handlers send them."""
    return [morsel.output(header="").strip() for morsel in response.cookies.values()]


@pytest.mark.parametrize(("kind", "path"), [(None, "/async/show"), ("async", "/show")])
def test_views_of_the_other_kind(server, loop, kind, path):
    """The first request of a process may find a synchronous view under ASGI, or an asynchronous one under WSGI."""
    with override_settings(COATCHECK={"URL": server.url}, ROOT_URLCONF="tests.frameworks.apps.django_auth_views"):
        identifier = sessions().create({"a": 1}).identifier
        configuration.cache_clear()  # what was learnt of the store's time too, each kind for itself
        visitor = Visitor(loop if kind else None)
        visitor.cookie = identifier

        answers = [visitor.visit(path) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json() for answer in answers] == [{"a": 1}] * 2


# The cookie


@pytest.mark.requirement("R3", "R4")
@pytest.mark.parametrize(
    ("changed", "secure", "start", "end"),
    [
        ({}, True, "__Host-sessionid=", "Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({}, False, "__Host-sessionid=", "Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({"SESSION_COOKIE_SECURE": False}, False, "sessionid=", "Path=/; HttpOnly; SameSite=Lax"),
        ({"SESSION_COOKIE_NAME": "__Host-s"}, True, "__Host-s=", "Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, True, "__Host-sessionid=", "SameSite=Strict; Secure"),
        ({"SESSION_COOKIE_SAMESITE": False}, True, "__Host-sessionid=", "SameSite=Lax; Secure"),
        ({"SESSION_COOKIE_PATH": "/app"}, True, "sessionid=", "; Path=/app; HttpOnly; SameSite=Lax; Secure"),
        (
            {"SESSION_COOKIE_DOMAIN": "a.org"},
            True,
            "sessionid=",
            "Domain=a.org; Path=/; HttpOnly; SameSite=Lax; Secure",
        ),
        ({"SESSION_COOKIE_HTTPONLY": False}, True, "__Host-sessionid=", "Path=/; HttpOnly; SameSite=Lax; Secure"),
    ],
)
def test_cookie(project, changed, secure, start, end):
    """The cookie is __Host-, Secure and HttpOnly unless the project's settings ask for something else."""
    with override_settings(**changed):
        (line,) = lines(answer(put, secure=secure))

    assert line.startswith(start)
    assert line.endswith(end)


def test_cookie_in_debug(project):
    """With DEBUG, http://localhost needs no https; other hosts do."""
    with override_settings(DEBUG=True):
        (local,) = lines(answer(put, secure=False, host="localhost:8000"))
        (other,) = lines(answer(put, secure=False, host="example.com"))

    assert local.startswith("sessionid=")
    assert other.startswith("__Host-")


def test_cookie_beside_others(project):
    """A cookie that the view sets stays."""

    def view(request):
        response = put(request)
        response.set_cookie("theme", "dark")
        return response

    assert sorted(answer(view).cookies) == ["__Host-sessionid", "theme"]


@pytest.mark.requirement("R8")
def test_headers(project):
    """A response that read the session varies by cookie and stays out of shared caches; its own Vary stays."""
    response = answer(lambda request: HttpResponse(request.session.get("a"), headers={"Vary": "Accept"}))

    assert response.headers["Vary"] == "Accept, Cookie"
    assert response.headers["Cache-Control"] == "private, no-store"


@pytest.mark.requirement("R8")
def test_headers_of_handle(project):
    """A response that only asked for the handle varies by cookie too."""
    response = answer(lambda request: HttpResponse(str(request.session.session.handle)))

    assert response.headers["Vary"] == "Cookie"


@pytest.mark.parametrize("own", [{}, {"Vary": "Accept"}, {"cache-control": "max-age=5"}])
def test_headers_of_mere_load(project, own):
    """So does one of a signed-in user's session that was loaded and not looked at, where there is nothing to save."""
    cookie = f"__Host-sessionid={sessions().create({'_auth_user_id': '7'}).identifier}"

    def view(request):
        request.session.load()
        return HttpResponse(headers=own)

    for _ in range(2):  # the first one may have to prolong it
        response = answer(view, cookie=cookie)

        assert response.headers["Vary"] == ("Accept, Cookie" if "Vary" in own else "Cookie")
        assert response.headers["Cache-Control"] == own.get("cache-control", "private, no-store")
        assert not response.cookies


def test_explicit_save(project):
    """A view that saves the session itself gets the same cookie."""

    def view(request):
        put(request)
        request.session.save()
        return HttpResponse(request.session.session_key)

    response = answer(view)

    assert response.cookies["__Host-sessionid"].value == response.content.decode()


@pytest.mark.parametrize("store", ["create", "save"])
def test_key_for_a_stranger(project, store):
    """A view that wants a key for a visitor without a session creates one, and the cookie carries it."""

    def view(request):
        if not request.session.session_key:
            getattr(request.session, store)()
        return HttpResponse(request.session.session_key)

    first = answer(view)
    cookie = first.cookies["__Host-sessionid"].value
    second = answer(view, cookie=f"__Host-sessionid={cookie}")

    assert first.content.decode() == second.content.decode() == cookie
    assert lines(second) == []


@pytest.mark.requirement("R56")
@pytest.mark.parametrize("store", ["create", "save"])
def test_source_over_its_limit(project, server, store):
    """Keys for strangers count as sessions that their source creates; over the limit the view is not given one."""

    def view(request):
        getattr(request.session, store)()
        return HttpResponse()

    policy = SessionPolicy(sources=SourcePolicy(creations=2))
    with override_settings(COATCHECK={**project, "POLICY": policy}):
        assert [answer(view).status_code for _ in range(2)] == [200, 200]
        with pytest.raises(SourceLimited) as error:  # which Django hands to process_exception
            answer(view)
        request = RequestFactory().get("/")
        assert SessionMiddleware(view).process_exception(request, error.value).status_code == 429
        assert answer(put).status_code == 429
        assert sessions().core.sources is async_sessions().sources

    assert len(server.keys(":s:")) == 2


def test_cookie_object(project):
    """Code that looks at response.cookies finds what is sent."""
    morsel = answer(put).cookies["__Host-sessionid"]

    assert [morsel[name] for name in ("path", "samesite", "httponly", "secure")] == ["/", "Lax", True, True]
    assert int(morsel["max-age"]) in {1209599, 1209600}


def test_cookie_of_error(project):
    """A session that the view saved before it failed is not lost with its cookie; an unsaved change is."""

    def view(request):
        put(request)
        request.session.save()
        return HttpResponse(status=500)

    assert [line.partition("=")[0] for line in lines(answer(view))] == ["__Host-sessionid"]
    assert lines(answer(lambda request: put(request) and HttpResponse(status=500))) == []


@pytest.mark.requirement("R20")
@pytest.mark.parametrize("name", ["b", "_auth_user_id", "_auth_user_hash"])
def test_late_request(project, ada, server, name):
    """A request that ends after the session has ended is answered, stores nothing and leaves the cookie alone.

    So is one that signs the same user in again, or changes the password.
    """

    def sign_in(request):
        request.session.update({"_auth_user_id": str(ada.pk), "_auth_user_hash": "first"})
        return HttpResponse()

    cookie = answer(sign_in).cookies["__Host-sessionid"].value

    def view(request):
        request.session[name] = str(ada.pk)
        sessions().revoke(SessionStore(cookie).session)
        return HttpResponse("done")

    response = answer(view, cookie=f"__Host-sessionid={cookie}")

    assert (response.status_code, lines(response)) == (200, [])
    assert server.left() == []


# Native asynchronous requests


def test_no_thread(project, loop):
    """An asynchronous request reads and writes its session without leaving the event loop for a thread."""

    async def view(request):
        await request.session.aset("n", await request.session.aget("n", 0) + 1)
        return HttpResponse(str(await request.session.aget("n")))

    async def request(cookie):
        made = RequestFactory().get("/", secure=True, headers={"Cookie": cookie})
        return await SessionMiddleware(view)(made)

    async def two_requests():
        first = await request("")  # which also connects
        loop.run_in_executor = None
        try:
            return await request(f"__Host-sessionid={first.cookies['__Host-sessionid'].value}")
        finally:
            del loop.run_in_executor

    assert loop.run_until_complete(two_requests()).content == b"2"


# Failures


@pytest.mark.requirement("R45")
def test_outage_in_view(project, ada, open_visitor):
    """A view that meets an outage is answered with 503 and Retry-After; the cookie stays, and the session too."""
    visitor = open_visitor().sign_in()
    with override_settings(COATCHECK={**project, **NOWHERE}):
        response = visitor.get("show")

    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "sessionid" not in response.cookies
    assert visitor.user == "ada"


@pytest.mark.requirement("R45")
def test_outage_at_save(project):
    """An outage that is met when the session is saved is a 503 too, and sets no cookie."""
    with override_settings(COATCHECK={**project, **NOWHERE}):
        response = answer(put)

    assert (response.status_code, lines(response)) == (503, [])


@pytest.mark.requirement("R45")
def test_outage_in_middleware(project, ada):
    """An outage that another middleware meets, before any view, is a 503 too."""
    client = Client(raise_request_exception=False)
    client.force_login(ada)
    login_required = {"append": "django.contrib.auth.middleware.LoginRequiredMiddleware"}
    with modify_settings(MIDDLEWARE=login_required), override_settings(COATCHECK={**project, **NOWHERE}):
        response = client.get("/show")

    assert response.status_code == 503


def test_outage_handled_by_view(project):
    """A view may handle the outage in its own way."""

    def view(request):
        try:
            return see(request)
        except StoreUnavailable:
            return HttpResponse("closed")

    cookie = f"__Host-sessionid={answer(put).cookies['__Host-sessionid'].value}"
    with override_settings(COATCHECK={**project, **NOWHERE}):
        response = answer(view, cookie=cookie)

    assert (response.status_code, response.content, lines(response)) == (200, b"closed", [])
    assert response.headers["Cache-Control"] == "private, no-store"


def test_other_failure_in_outage(project, ada):
    """A view that handles the outage, and fails of something else, is a 500 like any other."""
    client = Client(raise_request_exception=False)
    client.force_login(ada)
    with override_settings(COATCHECK={**project, **NOWHERE}):
        response = client.get("/stumble")

    assert response.status_code == 500


@pytest.mark.parametrize("view", [teapot_view, "tests.frameworks.test_django_middleware.teapot_view"])
def test_failure_view(project, view):
    """The project may answer failures with a view of its own."""
    with override_settings(COATCHECK={**project, **NOWHERE, "FAILURE_VIEW": view}):
        response = answer(put)

    assert (response.status_code, response.content) == (418, b"StoreUnavailable")


@pytest.mark.parametrize("extra", [{}, {"FAILURE_VIEW": teapot_view}], ids=["default", "view that leaves it"])
def test_limit_refused(project, open_visitor, extra):
    """A sign-in beyond a limit that refuses is answered with 403, unless the failure view says otherwise."""
    policy = SessionPolicy(limit=1, at_limit=AtLimit.REFUSE)
    with override_settings(COATCHECK={**project, **extra, "POLICY": policy}):
        first = open_visitor().sign_in()
        second = open_visitor()

        response = second.post("sign-in", user="ada", password="first")

        assert (response.status_code, second.user, first.user) == (403, "", "ada")


# Settings and checks


def test_wrong_engine(project):
    """The middleware does not serve another engine's sessions."""
    with (
        override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cache"),
        pytest.raises(ImproperlyConfigured, match=r"coatcheck\.django"),
    ):
        SessionMiddleware(see)


def test_unknown_setting(project):
    """A misspelt name in COATCHECK is refused where the project starts, with those that there are."""
    with override_settings(COATCHECK={"POLICEY": None}), pytest.raises(ConfigurationError, match=r"POLICEY.*POLICY"):
        SessionMiddleware(see)


@pytest.mark.requirement("R3")
def test_contradictory_cookie(project):
    """Settings that browsers would not accept are refused where the project starts."""
    contradiction = {"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": False}
    with override_settings(**contradiction), pytest.raises(ConfigurationError, match="SameSite=None"):
        SessionMiddleware(see)


@pytest.mark.filterwarnings("ignore:.*")
def test_system_checks(project, database, capsys):
    """`manage.py check` is content, the admin's checks included."""
    call_command("check", "--fail-level", "WARNING")

    assert "no issues" in capsys.readouterr().out


def test_system_check_of_settings(project):
    """`manage.py check` reports settings that will not do."""
    with override_settings(COATCHECK={"POLICEY": None}), pytest.raises(SystemCheckError, match=r"coatcheck\.E001"):
        call_command("check")


def test_system_check_of_middleware(project, capsys):
    """`manage.py check` warns of Django's own middleware."""
    with override_settings(MIDDLEWARE=[DJANGO_OWN, *settings.MIDDLEWARE[1:]]):
        call_command("check")

    assert "coatcheck.W001" in capsys.readouterr().err


def test_system_check_of_the_subject(project, capsys):
    """`manage.py check` warns of a subject that login() does not name; Django's own, or none, is right."""
    with override_settings(COATCHECK={**project, "POLICY": SessionPolicy(subject_attribute="_auth_user_id")}):
        call_command("check", "--fail-level", "WARNING")
    with override_settings(COATCHECK={**project, "POLICY": SessionPolicy(subject_attribute="user_id")}):
        call_command("check")

    assert "(coatcheck.W002) login() and logout() do not set 'user_id'" in capsys.readouterr().err


def test_cookie_policy(project):
    """A CookiePolicy wins over Django's settings."""
    with override_settings(COATCHECK={**project, "COOKIE": CookiePolicy(name="ticket")}):
        (line,) = lines(answer(put))

    assert line.startswith("__Host-ticket=")


# What comes with Django


def test_client(project, database):
    """The test client's `session` can be written and read, as Django documents."""
    client = Client()
    session = client.session
    session["a"] = "1"
    session.save()

    assert client.get("/show").json() == {"a": "1"}
    client.post("/put", {"b": "2"})
    assert dict(client.session.items()) == {"a": "1", "b": "2"}


def test_force_login(project, ada):
    """The test client's force_login() and logout() work, as Django documents."""
    client = Client()
    client.force_login(ada)
    assert client.get("/who").json()["user"] == "ada"

    client.logout()

    assert client.get("/who").json()["user"] == ""


def test_messages(project, database):
    """A message waits in the session for the next page, and is shown once."""
    client = Client()
    client.post("/say", {"text": "hello"})

    assert [client.get("/hear").json() for _ in range(2)] == [{"said": ["hello"]}, {"said": []}]


def test_admin(project, ada):
    """One signs in to the admin and out of it."""
    client = Client()
    page = client.get("/admin/login/")
    assert page.status_code == 200
    assert b"csrfmiddlewaretoken" in page.content

    client.post("/admin/login/?next=/admin/", {"username": "ada", "password": "first"})
    assert client.get("/admin/").status_code == 200

    client.post("/admin/logout/")
    assert client.get("/admin/").status_code == 302


def test_csrf(project, ada):
    """With CSRF checks on, a sign-in with the page's token works, and without it does not."""
    client = Client(enforce_csrf_checks=True)
    page = client.get("/admin/login/")
    form = {"username": "ada", "password": "first"}
    assert client.post("/admin/login/", form).status_code == 403

    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.content.decode())[1]
    client.post("/admin/login/", {**form, "csrfmiddlewaretoken": token})

    assert client.get("/admin/").status_code == 200
    assert client.cookies["csrftoken"].value != page.cookies["csrftoken"].value


# Django's own middleware


@pytest.fixture
def with_django_own(project):
    """Put Django's own middleware in the place of ours."""
    with override_settings(MIDDLEWARE=[DJANGO_OWN, *settings.MIDDLEWARE[1:]]):
        yield


def test_django_own_middleware(with_django_own, open_visitor):
    """With Django's own middleware one signs in, changes the session and signs out."""
    visitor = open_visitor().sign_in()
    visitor.post("put", a="1")
    assert (visitor.user, visitor.attributes) == ("ada", {"a": "1"})

    visitor.post("sign-out")

    assert (visitor.user, visitor.cookie) == ("", None)


@pytest.mark.requirement("R20")
def test_django_own_middleware_revives_nothing(with_django_own, server):
    """With Django's own middleware a request that ends after a logout is a 400, and revives nothing."""
    client = Client()
    client.post("/put", {"a": "1"})

    def view(request):
        request.session["b"] = 2
        client.session.flush()
        return HttpResponse()

    request = RequestFactory().get("/", headers={"Cookie": f"sessionid={client.cookies['sessionid'].value}"})
    with pytest.raises(SessionInterrupted):
        DjangoMiddleware(view)(request)
    assert server.left() == []
