"""The targets by name: what is called with arbitrary bytes, and what it begins with.

A target returns, or raises AssertionError for a promise that is broken; any other exception is a crash too: a reader
raises the errors that its docstring names, and the target takes care of those.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzz import dictionaries, requests, values

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target, of inputs that once broke something."""


@dataclass(frozen=True, slots=True)
class Target:
    """A function to be called with arbitrary bytes, and what makes its first inputs."""

    name: str
    check: Callable[[bytes], None]
    make_seeds: Callable[[], Iterator[bytes]]

    def seeds(self) -> list[bytes]:
        """List the inputs to begin with: those that are made, and those that are kept in the corpus."""
        kept = sorted((CORPUS / self.name).glob("*"))
        return [*self.make_seeds(), *(path.read_bytes() for path in kept)]


TARGETS = {
    target.name: target
    for target in (
        Target("ticket", requests.check_ticket, requests.ticket_seeds),
        Target("cookie", requests.check_cookie, requests.cookie_seeds),
        Target("csrf", requests.check_csrf, requests.csrf_seeds),
        Target("form", requests.check_form, requests.form_seeds),
        Target("client", requests.check_client, requests.client_seeds),
        Target("record", values.check_record, values.record_seeds),
        Target("payload", values.check_payload, values.payload_seeds),
        Target("dictionary", dictionaries.check_dictionary, dictionaries.dictionary_seeds),
        Target("frame", dictionaries.check_frame, dictionaries.frame_seeds),
        Target("value", values.check_value, values.value_seeds),
        Target("activity", values.check_activity, values.activity_seeds),
        Target("event", requests.check_event, requests.event_seeds),
        Target("address", requests.check_address, requests.address_seeds),
    )
}
