"""What web requests get while the store cannot be reached, if it is to be more than a 503."""

from dataclasses import dataclass
from datetime import timedelta

from coatcheck.model.errors import ConfigurationError

_LONGEST_LEASE = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutagePolicy:
    """What goes on in an outage. By default nothing: a request that needs its session is answered with 503.

    anonymous: the pages that may be served without: paths ("/about"), or all below one ("/products/*"). Their
        handlers get an empty session; nothing is saved, and no cookie is set or removed. GET and HEAD only.
    read_lease: for this long after this process has loaded a session, at most 60 seconds, it may be read without the
        store (`Session.is_leased`). What would write it is answered with 503. It is never read past a deadline, nor
        when this process has seen it end; that another one has ended it is not known meanwhile, unless it was heard.
    """

    anonymous: tuple[str, ...] = ()
    read_lease: timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not _are_paths(self.anonymous):
            raise ConfigurationError(
                f'anonymous is a tuple of paths such as "/about", or "/products/*" for all below: {self.anonymous!r}'
            )
        lease: object = self.read_lease
        if lease is not None and not (isinstance(lease, timedelta) and timedelta(0) < lease <= _LONGEST_LEASE):
            raise ConfigurationError(f"read_lease is a timedelta of at most 60 seconds, or None, not {lease!r}")

    def may_be_anonymous(self, method: str | None, path: str | None) -> bool:
        """Say whether a request may be served without its session."""
        if path is None or method not in {"GET", "HEAD"}:
            return False
        return any(path.startswith(page[:-1]) if page.endswith("/*") else path == page for page in self.anonymous)


def _are_paths(paths: object) -> bool:
    return isinstance(paths, tuple) and all(isinstance(path, str) and path.startswith("/") for path in paths)
