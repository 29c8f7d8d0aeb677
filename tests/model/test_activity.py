"""An entry of the activity as such."""

from datetime import UTC, datetime

import pytest

from coatcheck import Keyring, RecordCorrupted, new_key
from coatcheck.model.activity import Activities
from coatcheck.model.codec import encode
from coatcheck.model.ticket import Handle

AT = datetime(2026, 1, 1, tzinfo=UTC)
HANDLE = Handle(1, b"handle 12345")


@pytest.mark.requirement("R37")
@pytest.mark.parametrize(
    "body", ["ab", ["view"], ["view", {}, 1], [1, {}], ["view", []], ["view", {1: 1}], {"a": 1, "b": 2}]
)
def test_entry_of_another_shape(body):
    """What opens, but is not a name and named fields, is of another version: it is refused, not half understood."""
    activities = Activities(Keyring.parse(new_key()), "cc")

    with pytest.raises(RecordCorrupted, match="an activity opens, but is not understood by this version"):
        activities.open(HANDLE, AT, activities.seal(HANDLE, encode(body)))
