"""What an adapter is set up with: sessions that the application has, or what to make sessions of."""

from typing import Any, Protocol, TypeVar

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.policy import SessionPolicy
from coatcheck.runtime.address import Keys
from coatcheck.runtime.aio import AsyncSessions
from coatcheck.runtime.sync import Sessions

S = TypeVar("S", Sessions, AsyncSessions)
S_co = TypeVar("S_co", covariant=True)


class Maker(Protocol[S_co]):
    """What makes sessions: their class, or a function with defaults of its own."""

    def __call__(self, url: str | None, *, keys: Keys, policy: SessionPolicy | None, prefix: str | None) -> S_co:
        """Make them. None: the default. Raises ConfigurationError."""
        ...


def given_or_made(
    sessions: S | None,
    kind: type[S],
    *,
    to: str,
    url: str | None,
    keys: Keys,
    policy: SessionPolicy | None,
    prefix: str | None,
    make: Maker[S] | None = None,
) -> S:
    """Give the application's own *sessions*, or make some with the settings; both together contradict each other.

    kind: what *sessions* must be. to: what has been given them, for the text. make: makes them in the place of *kind*.
    Raises ConfigurationError.
    """
    if sessions is None:
        return (make or kind)(url, keys=keys, policy=policy, prefix=prefix)
    if (url, keys, policy, prefix) != (None, None, None, None):
        raise ConfigurationError(f"give {to} either sessions, or url, keys, policy and prefix")
    demand(kind, sessions, to=to)
    return sessions


def demand(kind: type[Any], sessions: object, *, to: str) -> None:
    """Raise ConfigurationError unless *sessions* are of that *kind*. to: what has been given them, for the text."""
    if not isinstance(sessions, kind):
        raise ConfigurationError(f"{to} needs coatcheck.{kind.__name__}, and was given {type(sessions).__name__}")
