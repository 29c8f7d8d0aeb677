"""A session's mapping against a plain dict, and the delta it keeps."""

from copy import deepcopy
from enum import Enum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coatcheck import SessionConflict
from coatcheck.model.attributes import Attributes
from coatcheck.model.codec import decode, encode
from coatcheck.model.delta import Delete, Increment, Set, apply

names = st.sampled_from(["a", "b", "c", ""])
leaves = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=2) | st.tuples(st.integers(0, 2))
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["k", "l", 1]), inner, max_size=3),
    max_leaves=6,
)


def stored(**values):
    """Make attributes as they come from the store."""
    return Attributes({name: encode(value) for name, value in values.items()})


def is_number(value):
    """Say whether an attribute can be incremented."""
    return isinstance(value, int) and not isinstance(value, bool)


class MappingMachine(RuleBasedStateMachine):
    """Does the same to Attributes and to a dict; saving now and then."""

    def __init__(self):
        super().__init__()
        self.attributes = Attributes({})
        self.model = {}

    @initialize(values=st.dictionaries(names, values))
    def load(self, values):
        """Begin with what is stored."""
        self.attributes = stored(**values)
        self.model = deepcopy(values)

    @rule(name=names, value=values)
    def assign(self, name, value):
        """Set an attribute."""
        self.attributes[name] = deepcopy(value)
        self.model[name] = deepcopy(value)

    @rule(name=names)
    def delete(self, name):
        """Delete an attribute, or meet a KeyError."""
        if name in self.model:
            del self.attributes[name], self.model[name]
        else:
            with pytest.raises(KeyError):
                del self.attributes[name]

    @rule(name=names)
    def pop(self, name):
        """Pop an attribute with a default."""
        assert self.attributes.pop(name, "absent") == self.model.pop(name, "absent")

    @rule(name=names, value=values)
    def set_default(self, name, value):
        """Set an attribute that is not there."""
        given = self.attributes.setdefault(name, deepcopy(value))
        assert given == self.model.setdefault(name, deepcopy(value))

    @rule(values=st.dictionaries(names, values))
    def update(self, values):
        """Set several attributes."""
        self.attributes.update(deepcopy(values))
        self.model.update(deepcopy(values))

    @precondition(lambda self: self.model)
    @rule()
    def pop_item(self):
        """Pop any attribute."""
        name, value = self.attributes.popitem()
        assert self.model.pop(name) == value

    @rule()
    def clear(self):
        """Remove everything."""
        self.attributes.clear()
        self.model.clear()

    @rule(name=names, by=st.integers(-3, 3))
    def increment(self, name, by):
        """Count, or meet a TypeError."""
        if is_number(self.model.get(name, 0)):
            self.model[name] = self.model.get(name, 0) + by
            assert self.attributes.increment(name, by) == self.model[name]
        else:
            with pytest.raises(TypeError):
                self.attributes.increment(name, by)

    @rule(name=names, value=values)
    def change_inside(self, name, value):
        """Change a list or a dict in place."""
        match self.model.get(name):
            case list() as items:
                items.append(deepcopy(value))
                self.attributes[name].append(deepcopy(value))
            case dict() as items:
                items["k"] = deepcopy(value)
                self.attributes[name]["k"] = deepcopy(value)

    @rule(name=names)
    def change_deep_inside(self, name):
        """Change what lies in a dict in a dict or list."""
        match self.model.get(name):
            case {"k": {"l": _} as inner}:
                inner.pop("l")
                self.attributes[name]["k"].pop("l")
            case {"k": list() as inner} | [list() as inner, *_]:
                inner.append(1)
                found = self.attributes[name]
                (found["k"] if isinstance(found, dict) else found[0]).append(1)

    @rule(name=names)
    def read(self, name):
        """Read one attribute."""
        assert self.attributes.get(name) == self.model.get(name)

    @rule()
    def save(self):
        """Store the changes and go on."""
        self.attributes.now_stored_as(apply(self.attributes.delta(), self.attributes.stored))
        assert self.attributes.delta() == []

    @invariant()
    def delta_leads_to_the_model(self):
        """What was stored, with the delta replayed, is the model."""
        result = apply(self.attributes.delta(), self.attributes.stored)
        assert {name: decode(raw) for name, raw in result.items()} == self.model

    @invariant()
    def mapping_is_the_model(self):
        """Names, number and membership agree, without decoding anything."""
        assert set(self.attributes) == set(self.model)
        assert len(self.attributes) == len(self.model)
        assert all((name in self.attributes) == (name in self.model) for name in ("a", "b", "c", "", "z"))

    def teardown(self):
        """At the end all values agree."""
        assert dict(self.attributes) == self.model
        assert self.attributes == self.model


TestMapping = MappingMachine.TestCase
TestMapping.settings = settings(deadline=None, max_examples=150, stateful_step_count=30)


@pytest.mark.parametrize(
    "read",
    [
        lambda a: a["l"],
        lambda a: a.get("l"),
        lambda a: a.get("none"),
        lambda a: "l" in a,
        lambda a: "none" in a,
        iter,
        len,
        bool,
        lambda a: list(a.keys()),
        lambda a: list(a.values()),
        lambda a: list(a.items()),
        lambda a: a == {},
        lambda a: a.pop("l"),
        lambda a: a.pop("none", None),
        lambda a: a.popitem(),
        lambda a: a.setdefault("l", 1),
        lambda a: a.setdefault("none", 1),
        lambda a: a.update({"x": 1}),
        lambda a: a.clear(),
        lambda a: a.__setitem__("x", 1),
        lambda a: a.__delitem__("l"),
        lambda a: a.increment("n"),
    ],
)
@pytest.mark.requirement("R8")
def test_every_method_counts_as_access(read):
    """Whatever a request asks of the mapping marks it as accessed: the response depends on the session."""
    attributes = stored(l=[1], n=1)
    assert not attributes.accessed

    read(attributes)

    assert attributes.accessed


@pytest.mark.parametrize("method", [lambda a: a["none"], lambda a: a.pop("none"), lambda a: a.__delitem__("none")])
def test_missing_attribute(method):
    """A missing attribute raises KeyError with its name, and that too is an access."""
    attributes = stored(a=1)

    with pytest.raises(KeyError, match="none"):
        method(attributes)

    assert attributes.accessed


def test_engine_looks_without_counting():
    """What the engine reads for itself is no access of the application's."""
    attributes = stored(a=[1])

    assert attributes.peek("a") == [1]
    assert attributes.peek("none") is None
    assert attributes.delta() == []
    assert not attributes.accessed


@pytest.mark.requirement("R39")
def test_reading_is_no_change():
    """Reading every value, nested ones too, leaves nothing to write."""
    attributes = stored(a=[1, {"b": (1, {2})}], d={"k": [1]}, n=1)

    list(attributes.values())
    attributes["d"]["k"].count(1)

    assert attributes.delta() == []


@pytest.mark.parametrize("raw", ["dc000105", "91cd0005", "81a161d30000000000000005", "82a16201a16102", "cd0005"])
@pytest.mark.requirement("R39")
def test_reading_what_a_foreign_encoder_wrote_is_no_change(raw):
    """A value in another encoder's longer spelling leaves nothing to write when it is read, and when set again."""
    attributes = Attributes({"a": bytes.fromhex(raw)})

    value = attributes["a"]

    assert attributes.delta() == []
    attributes["a"] = value
    assert [type(operation) for operation in attributes.delta()] in ([], [Set])


@pytest.mark.parametrize("value", [1, "text", [1, [2]], {"k": {"l": 1}}, {1, 2}, None])
def test_setting_the_same_value_is_no_change(value):
    """Assigning what is stored already leaves nothing to write."""
    attributes = stored(a=value)

    attributes["a"] = deepcopy(value)
    attributes.update({"a": deepcopy(value)})
    attributes.setdefault("a", 5)

    assert attributes.delta() == []


def test_a_change_taken_back_in_place_is_no_change():
    """A nested change that is undone leaves nothing to write."""
    attributes = stored(a=[1])
    attributes["a"].append(2)
    assert attributes.delta() == [Set(("a",), encode([1, 2]))]

    attributes["a"].pop()

    assert attributes.delta() == []


def test_nested_changes_are_seen_key_by_key():
    """A change inside a dict is the change of that key alone."""
    attributes = stored(cart={"lines": {"7": 1}, "note": "x"})

    attributes["cart"]["lines"]["8"] = 2
    del attributes["cart"]["note"]

    assert attributes.delta() == [Delete(("cart", "note")), Set(("cart", "lines", "8"), encode(2))]


def test_a_change_after_assignment_is_seen():
    """An object that was assigned and changed afterwards is stored as it is at the end."""
    attributes = stored()
    lines = [1]
    attributes["lines"] = lines
    lines.append(2)

    assert apply(attributes.delta(), {}) == {"lines": encode([1, 2])}


def test_clear_removes_what_others_added():
    """Clearing removes attributes that other requests have added since, and what is set afterwards counts."""
    attributes = stored(a=1)
    attributes.clear()
    attributes["b"] = 2

    assert apply(attributes.delta(), {"a": encode(1), "later": encode(1)}) == {"b": encode(2)}


def test_increments_become_one():
    """Increments of one request add up to one operation; after a set they are part of it."""
    attributes = stored(n=1, m="text")
    attributes.increment("n")
    attributes.increment("n", 4)
    attributes["m"] = 10
    attributes.increment("m", 5)
    attributes.increment("fresh", 2.5)

    assert attributes.delta() == [Increment(("n",), 5), Set(("m",), encode(15)), Increment(("fresh",), 2.5)]
    assert (attributes["n"], attributes["m"], attributes["fresh"]) == (6, 15, 2.5)


@pytest.mark.parametrize(("value", "kind"), [("1", "str"), (True, "bool"), (None, "NoneType"), ([1], "list")])
def test_increment_of_what_is_no_number(value, kind):
    """Counting what is no number raises TypeError and changes nothing."""
    attributes = stored(n=value)

    with pytest.raises(TypeError, match=f"^attribute n is a {kind}, not a number$"):
        attributes.increment("n")

    assert attributes.delta() == []


@pytest.mark.parametrize(("name", "kind"), [(1, "int"), (None, "NoneType"), (("a",), "tuple"), (b"a", "bytes")])
def test_names_are_str(name, kind):
    """The name of an attribute is a str."""
    with pytest.raises(TypeError, match=f"^the name of an attribute must be a str, not {kind}$"):
        stored()[name] = 1


def test_a_refused_value_changes_nothing():
    """A value that cannot be stored is refused where it is assigned, and the attribute stays as it was."""
    attributes = stored(a=1)

    with pytest.raises(TypeError, match=r"^attribute a: a session cannot hold builtins\.object"):
        attributes["a"] = object()
    with pytest.raises(ValueError, match=r"^attribute b: an int must fit 64 bits"):
        attributes["b"] = 2**64

    assert dict(attributes) == {"a": 1}
    assert attributes.delta() == []


def test_objects_stay_in_use_after_a_save():
    """An object that the request holds is still the session's after a save: later changes to it are seen."""
    attributes = stored()
    lines: list = []
    attributes["lines"] = lines
    attributes.now_stored_as(apply(attributes.delta(), {}))

    lines.append(1)

    assert attributes["lines"] is lines
    assert attributes.delta() == [Set(("lines",), encode([1]))]


# Against what others have written


@pytest.mark.requirement("R38")
@pytest.mark.parametrize(
    "change", [lambda a: a.__setitem__("x", 9), lambda a: a.__delitem__("x"), lambda a: a["d"].update(k=2)]
)
def test_conflict_on_the_same_attribute(change):
    """In strict mode a change of what another request has changed meanwhile is a conflict."""
    attributes = stored(x=1, d={"k": 1, "l": 1})
    change(attributes)
    theirs = {"x": encode(2), "d": encode({"k": 1, "l": 2})}

    with pytest.raises(SessionConflict, match=r"^attribute [xd] was changed by another request meanwhile$"):
        attributes.check_conflicts(theirs)


def test_clear_conflicts_with_any_change():
    """In strict mode clearing conflicts with whatever another request has changed or added."""
    attributes = stored(x=1)
    attributes.clear()

    with pytest.raises(SessionConflict, match=r"^attribute later was changed"):
        attributes.check_conflicts({"x": encode(1), "later": encode(1)})


def test_no_conflict_on_other_attributes_nor_increments():
    """Changes of other attributes and increments are no conflict."""
    attributes = stored(x=1, n=1)
    attributes["x"] = 2
    attributes.increment("n")

    attributes.check_conflicts({"x": encode(1), "n": encode(50), "other": encode(1)})

    assert apply(attributes.delta(), {"x": encode(1), "n": encode(50)}) == {"x": encode(2), "n": encode(51)}


def test_merge_makes_other_attributes_one_s_own_changes():
    """Merging makes the mapping what is given, as changes yet to be saved."""
    attributes = stored(same=[1], gone=1, other=1)
    held = attributes["same"]

    attributes.merge({"same": encode([1]), "other": encode(2), "fresh": encode(3)})

    assert dict(attributes) == {"same": [1], "other": 2, "fresh": 3}
    assert attributes["same"] is held
    assert apply(attributes.delta(), attributes.stored) == {name: encode(v) for name, v in dict(attributes).items()}


class Name(str, Enum):  # noqa: UP042  what many applications have: its hash and its text are not its value's
    """A name of an attribute."""

    CART = "cart"


def test_name_of_a_subclass_of_str():
    """A name that is a member of an enum of strings is its value, however it is used."""
    attributes = stored(n=1)

    attributes[Name.CART] = ["book"]
    attributes[Name.CART].append("pen")

    assert attributes["cart"] == attributes[Name.CART] == ["book", "pen"]
    assert Name.CART in attributes
    assert apply(attributes.delta(), attributes.stored).keys() == {"n", "cart"}
    del attributes[Name.CART]
    assert attributes.increment(Name.CART) == attributes["cart"] == 1


@pytest.mark.parametrize("change", [lambda a: a.__setitem__("\ud800", 1), lambda a: a.increment("\ud800")])
def test_name_that_is_no_valid_unicode(change):
    """A name that cannot be stored is refused where it is given, not when the session is saved."""
    attributes = stored(n=1)

    with pytest.raises(ValueError, match="valid Unicode"):
        change(attributes)

    assert attributes.delta() == []
