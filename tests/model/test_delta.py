"""What a request changed, replayed on what others have written meanwhile."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coatcheck import SessionConflict
from coatcheck.model.codec import decode, encode
from coatcheck.model.delta import Delete, Increment, Set, add, apply, difference
from tests.model.values import ints, returned, scalars, shape

trees = st.recursive(
    scalars | st.lists(ints, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c", 1, 2, ""]) | ints, inner, max_size=4),
    max_leaves=10,
)
names = st.sampled_from(["a", "b", "c", "n"])
paths = st.lists(st.sampled_from(["a", "b", 1]), max_size=2).flatmap(lambda rest: names.map(lambda name: (name, *rest)))
changes = st.builds(Set, paths, scalars.map(encode)) | st.builds(Delete, paths)
states = st.dictionaries(names, trees.map(encode), max_size=4)


def decoded(attributes):
    """Give encoded attributes as values whose types compare too."""
    return {name: shape(decode(raw)) for name, raw in attributes.items()}


@given(before=trees, after=trees)
def test_difference_leads_from_one_value_to_the_other(before, after):
    """Replaying the difference of two values on the first gives the second."""
    result = apply(difference(("v",), before, after), {"v": encode(before)})

    assert shape(decode(result["v"])) == shape(returned(after))


@given(value=trees)
def test_no_difference(value):
    """A value differs in nothing from what it comes back as."""
    assert difference(("v",), value, decode(encode(value))) == []


def test_difference_of_dicts_is_key_by_key():
    """Inside dicts only the keys that changed are in the difference, at any depth."""
    before = {"keep": [1], "gone": 1, "in": {"same": 1, "other": [1]}, 1: "one"}
    after = {"keep": [1], "in": {"same": 1, "other": [1, 2], "fresh": {}}, 1: "uno"}

    assert difference(("a",), before, after) == [
        Delete(("a", "gone")),
        Set(("a", "in", "other"), encode([1, 2])),
        Set(("a", "in", "fresh"), encode({})),
        Set(("a", 1), encode("uno")),
    ]


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), ([1], (1,)), ({1}, {True}), ("1", 1), (0, False)])
def test_values_that_python_calls_equal_may_differ(before, after):
    """True is not 1 and a list is no tuple: such a change is a change."""
    assert difference(("a",), before, after) == [Set(("a",), encode(after))]


@given(state=states, operations=st.lists(changes, max_size=5))
def test_apply_leaves_its_argument_alone(state, operations):
    """Replaying changes gives a new mapping; the one it was replayed on stays as it was."""
    before = dict(state)

    apply(operations, state)

    assert state == before


@given(state=states, operations=st.lists(changes, max_size=5))
def test_replaying_twice_is_replaying_once(state, operations):
    """Sets and deletes replayed again change nothing more."""
    once = apply(operations, state)

    assert decoded(apply(operations, once)) == decoded(once)


@given(state=states, one=changes, other=changes)
@pytest.mark.requirement("R38")
def test_changes_of_different_attributes_commute(state, one, other):
    """Two requests that change different attributes both win, whichever is first."""
    assume(one.path[0] != other.path[0])

    assert apply([one, other], state) == apply([other, one], state)


@given(
    state=st.dictionaries(st.sampled_from(["x", "y", "z"]), scalars, max_size=3),
    one=st.sampled_from(["x", "y", "z"]),
    other=st.sampled_from(["x", "y", "z"]),
    values=st.tuples(scalars, scalars),
    deletes=st.tuples(st.booleans(), st.booleans()),
)
@pytest.mark.requirement("R38")
def test_changes_of_different_keys_of_a_dict_commute(state, one, other, values, deletes):
    """Two requests that change different keys inside one dict both win, whichever is first."""
    assume(one != other)
    first, second = (
        Delete(("a", key)) if delete else Set(("a", key), encode(value))
        for key, value, delete in zip((one, other), values, deletes, strict=True)
    )
    stored = {"a": encode(state)}

    assert decoded(apply([first, second], stored)) == decoded(apply([second, first], stored))


@given(start=st.integers(-1000, 1000), steps=st.lists(st.integers(-1000, 1000), max_size=6), data=st.data())
@pytest.mark.requirement("R38")
def test_increments_add_up_in_any_order(start, steps, data):
    """Increments of several requests all count, whatever their order."""
    operations = [Increment(("n",), step) for step in steps]
    shuffled = data.draw(st.permutations(operations))

    assert decode(apply(shuffled, {"n": encode(start)})["n"]) == start + sum(steps)


def test_increment_of_nothing_starts_from_zero():
    """An increment of an absent attribute counts from zero."""
    assert apply([Increment(("n",), 2)], {}) == {"n": encode(2)}
    assert apply([Delete(("n",)), Increment(("n",), 2)], {"n": encode(5)}) == {"n": encode(2)}


@pytest.mark.parametrize("value", ["text", None, True, [1], {"a": 1}, b"1"])
def test_increment_of_what_is_no_number(value):
    """An increment that meets what is no longer a number is a conflict, and the text says of which attribute."""
    expected = r"^attribute n is not a number and cannot be incremented$"
    with pytest.raises(SessionConflict, match=expected):
        apply([Increment(("n",), 1)], {"n": encode(value)})
    with pytest.raises(SessionConflict, match=expected):
        add(value, 1, "n")


def test_empty_path_removes_everything():
    """The delete of the empty path removes every attribute, and what follows it counts."""
    assert apply([Delete(()), Set(("b",), encode(1))], {"a": encode(1), "b": encode(2)}) == {"b": encode(1)}


def test_set_makes_the_dicts_on_its_way():
    """A change inside a dict that another request has removed or replaced makes the dicts on its way."""
    change = Set(("a", "b", "c"), encode(1))
    for state in ({}, {"a": encode(5)}, {"a": encode({})}, {"a": encode({"b": [1]})}):
        assert decode(apply([change], state)["a"]) == {"b": {"c": 1}}


def test_delete_of_what_is_gone_changes_nothing():
    """A delete inside what another request has removed or replaced makes nothing and raises nothing."""
    for state in ({}, {"a": encode(5)}, {"a": encode({})}, {"a": encode({"b": 1})}, {"a": encode({"b": {}})}):
        assert apply([Delete(("a", "b", "c"))], state) == state


def test_operation_shows_no_path_confusion_between_kinds_of_keys():
    """The keys 1 and "1" of a dict are two keys."""
    state = {"a": encode({1: "int", "1": "str"})}

    assert decode(apply([Delete(("a", 1))], state)["a"]) == {"1": "str"}
    assert decode(apply([Delete(("a", "1"))], state)["a"]) == {1: "int"}
