"""The extras of the package: what is not installed with it unless asked for."""

from types import TracebackType


class Extra:
    """Surrounds the imports of what an extra installs, so that its lack is told with the remedy.

    with Extra("oidc", "jwt"):
        import jwt
    """

    __slots__ = ("_name", "_packages")

    def __init__(self, name: str, *packages: str) -> None:
        """Guard imports of the top-level *packages*, which the extra *name* installs."""
        self._name = name
        self._packages = packages

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Raise ModuleNotFoundError with the remedy where one of the packages is what is missing."""
        if isinstance(error, ModuleNotFoundError) and error.name in self._packages:
            raise ModuleNotFoundError(
                f"{error.name} is not installed: {installation(self._name)}", name=error.name, path=error.path
            ) from None


def installation(extra: str) -> str:
    """Say how *extra* is installed."""
    return f'pip install "coatcheck[{extra}]"'
