"""One deadline for all calls of an operation.

A call to the store has the deadline for itself. An operation that makes several, or waits for something besides, has
them share one:

    with OneDeadline():
        ...

The transport asks for it (`current`) with each call. It is kept in a context variable, so it is the running task's or
thread's own: whoever waits for another, or is written along with another, has its own. Where one call is nearly always
enough, the block begins only with the second, and is told when the first began; the others cost nothing more then.
"""

from contextvars import ContextVar, Token
from time import monotonic
from typing import Final, Self

_CURRENT: Final[ContextVar["OneDeadline | None"]] = ContextVar("coatcheck_deadline", default=None)

current: Final = _CURRENT.get
"""Give what the calls made here and now share; None: each has a deadline of its own."""


class OneDeadline:
    """What the calls made within its block share. A block within another adds nothing to it.

    began: since when the time runs (monotonic, seconds). trouble: what has taken it all, if anything has.
    """

    __slots__ = ("_token", "began", "trouble")

    def __init__(self, began: float | None = None) -> None:
        """Have the time run since *began* (monotonic, seconds); None: since now."""
        self.began = monotonic() if began is None else began
        self.trouble: object = None
        self._token: Token[OneDeadline | None] | None = None

    def __enter__(self) -> Self:
        """Begin the block."""
        if _CURRENT.get() is None:
            self._token = _CURRENT.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        """End the block."""
        if self._token is not None:
            try:  # noqa: SIM105  suppress would cost as much as all the rest
                _CURRENT.reset(self._token)
            except ValueError:  # a task that was never ended is thrown away, and this is another's context
                pass


def spare(seconds: float) -> None:
    """Leave so many *seconds*, which were waited for on purpose and not for the store, out of the time that runs."""
    if (shared := _CURRENT.get()) is not None:
        shared.began += seconds
