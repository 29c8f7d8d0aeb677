"""The optional app: "coatcheck.django" in INSTALLED_APPS."""

from django.apps import AppConfig


class CoatcheckConfig(AppConfig):
    """Adds the system checks."""

    name = "coatcheck.django"
    label = "coatcheck"

    def ready(self) -> None:
        """Register the checks."""
        from coatcheck.django import checks  # noqa: F401, PLC0415  importing registers them, once apps are ready
