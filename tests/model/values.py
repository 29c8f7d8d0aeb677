"""Values that a session can hold, for hypothesis; and how each comes back."""

import datetime as dt
from decimal import Decimal
from uuid import UUID

from hypothesis import strategies as st

zones = st.builds(
    dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(lambda d: d - d % SECOND)
)
SECOND = dt.timedelta(seconds=1)
ints = st.integers(-(2**63), 2**64 - 1)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    ints,
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.datetimes(timezones=st.none() | zones),
    st.dates(),
    st.times(timezones=st.none() | zones),
    st.timedeltas(),
)
members = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)
values = st.recursive(
    scalars | st.sets(members, max_size=4) | st.frozensets(members, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8) | ints, inner, max_size=4)
    ),
    max_leaves=12,
)
attribute_names = st.text(max_size=8)


def returned(value):
    """Say what *value* comes back as: a frozenset that is no member of a set as a set, all else as it is."""
    if isinstance(value, dict):
        return {key: returned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [returned(item) for item in value]
    if isinstance(value, tuple):
        return tuple(returned(item) for item in value)
    return set(value) if isinstance(value, frozenset) else value


def shape(value):
    """Give *value* so that equality also compares types: True is not 1, 1 is not 1.0, a list is no tuple."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, {(type(key).__name__, key): shape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return kind, [shape(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(map(repr, map(shape, value)))
    if isinstance(value, dt.datetime | dt.time):
        return kind, value.isoformat()
    if isinstance(value, float | Decimal | UUID):
        return kind, repr(value)
    return kind, value
