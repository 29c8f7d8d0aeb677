"""Signing in and out: bind, unbind, and the attribute that says who is signed in."""

from datetime import timedelta

import pytest

from coatcheck import SessionPolicy, SessionRevoked, Status


@pytest.fixture
def anonymous(sessions):
    """Give a stored session of nobody."""
    return sessions.create({"cart": ["book"], "n": 1})


@pytest.fixture
def named(open_sessions):
    """Give sessions whose policy names the attribute that says who is signed in."""
    return open_sessions(policy=SessionPolicy(subject_attribute="user_id"))


def handles(sessions, subject):
    """List the handles of the subject's sessions."""
    return {info.handle for info in sessions.list_for(subject)}


@pytest.mark.requirement("R28")
def test_bind_gives_a_new_handle(sessions, anonymous, server):
    """A sign-in continues the session under a new handle and secret, lists it, and ends the old identifier."""
    old = anonymous.identifier
    former = anonymous.handle

    sessions.bind(anonymous, "ada")

    assert anonymous.handle != former
    assert anonymous.subject == "ada"
    assert anonymous.status is Status.ROTATED
    assert sessions.load(old) is None
    assert sessions.find(former) is None
    loaded = sessions.load(anonymous.identifier)
    assert (loaded.subject, dict(loaded)) == ("ada", {"cart": ["book"], "n": 1})
    assert handles(sessions, "ada") == {anonymous.handle}
    assert len(server.keys(":s:")) == 1


def test_bind_of_a_new_session(sessions):
    """A session that was never stored can be bound at once."""
    session = sessions.new()
    session["a"] = 1

    sessions.bind(session, "ada")

    assert sessions.load(session.identifier).subject == "ada"


def test_sessions_of_a_subject_share_a_partition(sessions):
    """All sessions of one subject live in its partition."""
    found = set()
    for _ in range(5):
        session = sessions.new()
        sessions.bind(session, "ada")
        found.add(session.handle.partition)

    assert len(found) == 1


def test_bind_gives_new_deadlines(sessions, anonymous, clock):
    """The absolute timeout counts from the sign-in."""
    clock.advance(timedelta(minutes=20))

    sessions.bind(anonymous, "ada")

    assert anonymous.absolute_deadline - anonymous.created_at == timedelta(hours=12)
    assert anonymous.created_at.timestamp() * 1000 == pytest.approx(clock.now(), abs=2000)


@pytest.mark.requirement("R28")
def test_bind_again_takes_its_own_place(sessions, anonymous):
    """Signing in again on the same session replaces it: new identifier, one session."""
    sessions.bind(anonymous, "ada")
    first = anonymous.identifier
    anonymous["n"] = 2

    sessions.bind(anonymous, "ada")

    assert sessions.load(first) is None
    assert dict(sessions.load(anonymous.identifier)) == {"cart": ["book"], "n": 2}
    assert handles(sessions, "ada") == {anonymous.handle}


def test_bind_again_needs_no_room(open_sessions):
    """Signing in again on the same session counts as that session, not as one more."""
    sessions = open_sessions(policy=SessionPolicy(limit=2))
    other, mine = sessions.new(), sessions.new()
    sessions.bind(other, "ada")
    sessions.bind(mine, "ada")

    sessions.bind(mine, "ada")

    assert handles(sessions, "ada") == {other.handle, mine.handle}


def test_bind_to_another_subject(sessions, anonymous):
    """Signing somebody else in ends the former subject's session."""
    sessions.bind(anonymous, "ada")
    first = anonymous.identifier

    sessions.bind(anonymous, "bob")

    assert sessions.load(first) is None
    assert sessions.load(anonymous.identifier).subject == "bob"
    assert handles(sessions, "ada") == set()
    assert handles(sessions, "bob") == {anonymous.handle}


def test_what_was_ones_is_not_handed_to_another(sessions, anonymous):
    """When somebody else signs in on a signed-in session, only what that request has set goes with them."""
    anonymous["address"] = "Ada's street"
    sessions.bind(anonymous, "ada")
    anonymous["greeting"] = "hello bob"

    sessions.bind(anonymous, "bob")

    assert dict(sessions.load(anonymous.identifier)) == dict(anonymous) == {"greeting": "hello bob"}


def test_a_service_that_names_another_attribute(open_sessions):
    """A service that shares a session, and goes by another attribute, signs nobody out by reading or writing it."""
    sessions = open_sessions(policy=SessionPolicy(subject_attribute="user_id"))
    others = open_sessions(policy=SessionPolicy(subject_attribute="_auth_user_id"))
    session = sessions.create({"user_id": "ada"})
    for changes in ({}, {"a": 1}):
        theirs = others.load(session.identifier)
        theirs.update(changes)
        others.save(theirs)

    assert sessions.load(session.identifier).subject == "ada"
    assert dict(sessions.load(session.identifier)) == {"user_id": "ada", "a": 1}


def test_a_session_from_before_the_attribute_was_named(open_sessions):
    """A session that already holds the attribute is bound when it is next saved under a policy that names it."""
    stored = open_sessions().create({"user_id": 7})
    sessions = open_sessions(policy=SessionPolicy(subject_attribute="user_id"))
    session = sessions.load(stored.identifier)

    sessions.save(session)

    assert session.subject == "7"
    assert handles(sessions, "7") == {session.handle}


@pytest.mark.parametrize("value", [True, 1.5, [], {}, b"ada"])
def test_attribute_that_names_nobody_for_certain(open_sessions, value):
    """A value that many could share is refused as a subject; so nobody is bound to it."""
    sessions = open_sessions(policy=SessionPolicy(subject_attribute="user_id"))
    session = sessions.create({"a": 1})
    session["user_id"] = value

    with pytest.raises(TypeError, match=r"^the policy's subject_attribute must hold a str, an int or a UUID, not "):
        sessions.save(session)

    assert sessions.load(session.identifier).subject is None


@pytest.mark.requirement("R20")
@pytest.mark.parametrize("subject", ["ada", "bob"])
def test_bind_of_a_session_that_has_ended(sessions, anonymous, server, subject):
    """A signed-in session that ended meanwhile is not brought back by a bind, to whomever."""
    sessions.bind(anonymous, "ada")
    sessions.revoke_all("ada")

    with pytest.raises(SessionRevoked):
        sessions.bind(anonymous, subject)

    assert server.left() == []


def test_bind_of_an_anonymous_session_that_has_ended(sessions, anonymous):
    """An anonymous session that is gone is no obstacle to a sign-in."""
    mine = sessions.load(anonymous.identifier)
    sessions.revoke(anonymous.handle)

    sessions.bind(mine, "ada")

    assert sessions.load(mine.identifier).subject == "ada"


def test_bind_brings_along_what_others_wrote(sessions, anonymous):
    """What another request wrote to the anonymous session meanwhile is in the signed-in one."""
    mine, theirs = sessions.load(anonymous.identifier), sessions.load(anonymous.identifier)
    theirs["cart"] = ["book", "pen"]
    theirs.increment("n", 5)
    sessions.save(theirs)
    mine["name"] = "Ada"
    mine.increment("n", 2)

    sessions.bind(mine, "ada")

    expected = {"cart": ["book", "pen"], "n": 8, "name": "Ada"}
    assert dict(mine) == expected
    assert dict(sessions.load(mine.identifier)) == expected


def test_bind_again_brings_along_what_others_wrote(sessions, anonymous):
    """The same holds where the session was signed in already, to the same subject."""
    sessions.bind(anonymous, "ada")
    mine, theirs = sessions.load(anonymous.identifier), sessions.load(anonymous.identifier)
    theirs["before"] = 1
    theirs.increment("n")
    sessions.save(theirs)
    mine.increment("n")

    sessions.bind(mine, "ada")

    assert dict(sessions.load(mine.identifier)) == {"cart": ["book"], "n": 3, "before": 1}


def test_sign_in_of_somebody_else_keeps_nothing(sessions, anonymous):
    """Of another subject's session nothing crosses but what the request that signs in has set itself."""
    sessions.bind(anonymous, "ada")
    mine, theirs = sessions.load(anonymous.identifier), sessions.load(anonymous.identifier)
    theirs["private"] = 1
    sessions.save(theirs)
    mine["mine"] = 2

    sessions.bind(mine, "bob")

    assert dict(sessions.load(mine.identifier)) == {"mine": 2}
    assert sessions.load(anonymous.identifier) is None


@pytest.mark.requirement("R31")
def test_only_carried_attributes_cross_a_sign_in(open_sessions):
    """Of what an anonymous session holds only the attributes on the policy's list cross a sign-in."""
    sessions = open_sessions(policy=SessionPolicy(carried=("cart",)))
    anonymous = sessions.create({"cart": ["book"], "is_admin": True})
    mine, theirs = sessions.load(anonymous.identifier), sessions.load(anonymous.identifier)
    theirs["cart"].append("pen")
    theirs["planted"] = 1
    sessions.save(theirs)
    mine["name"] = "Ada"

    sessions.bind(mine, "ada")

    expected = {"cart": ["book", "pen"], "name": "Ada"}
    assert dict(mine) == expected
    assert dict(sessions.load(mine.identifier)) == expected


@pytest.mark.requirement("R12")
def test_authenticating_again(sessions, anonymous, clock):
    """To bind the same subject again resets both clocks, the moment of authentication and the identifier."""
    assert (anonymous.auth_time, anonymous.assurance) == (None, 0)
    sessions.bind(anonymous, "ada")
    assert sessions.load(anonymous.identifier).assurance == 1
    clock.advance(timedelta(minutes=20))
    mine = sessions.load(anonymous.identifier)

    sessions.bind(mine, "ada", assurance=2)

    loaded, passed = sessions.load(mine.identifier), timedelta(minutes=20)
    assert mine.handle != anonymous.handle
    assert sessions.load(anonymous.identifier) is None
    assert (loaded.assurance, loaded.auth_time) == (2, loaded.created_at)
    assert loaded.auth_time - anonymous.auth_time >= passed
    assert loaded.absolute_deadline - anonymous.absolute_deadline >= passed
    assert loaded.idle_deadline - anonymous.idle_deadline >= passed


@pytest.mark.parametrize("level", [0, 4, "2"])
def test_impossible_assurance(sessions, anonymous, level):
    """An assurance that NIST does not know is refused, and nothing is done."""
    with pytest.raises(ValueError, match="assurance is 1, 2 or 3"):
        sessions.bind(anonymous, "ada", assurance=level)

    assert sessions.load(anonymous.identifier).subject is None


def test_write_after_a_bind_elsewhere(sessions, anonymous):
    """A request that still has the anonymous session when another signs in cannot write to it."""
    theirs = sessions.load(anonymous.identifier)
    sessions.bind(anonymous, "ada")
    theirs["late"] = 1

    with pytest.raises(SessionRevoked):
        sessions.save(theirs)

    assert "late" not in sessions.load(anonymous.identifier)


@pytest.mark.requirement("R28")
def test_two_binds_of_one_signed_in_session(sessions, anonymous, at_once):
    """A signed-in session cannot be multiplied by signing in on it several times at once."""
    sessions.bind(anonymous, "ada")
    copies = [sessions.load(anonymous.identifier) for _ in range(8)]

    outcomes = at_once(*((sessions, "bind", copy, "ada") for copy in copies))

    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, SessionRevoked) for outcome in outcomes) == 7
    assert len(handles(sessions, "ada")) == 1


def test_bind_to_nobody(sessions, anonymous):
    """A subject needs a name."""
    with pytest.raises(ValueError, match="the subject must not be empty"):
        sessions.bind(anonymous, "")


@pytest.mark.parametrize("subject", ["ada@example.org", "ø" * 500, "a\0b", "{x}", " "])
def test_any_text_is_a_subject(sessions, server, subject):
    """Subjects are any text; none of it shows in the name of a key."""
    session = sessions.new()
    sessions.bind(session, subject)

    assert handles(sessions, subject) == {session.handle}
    assert len(subject) == 1 or server.keys(subject) == []


def test_own_timeouts_survive_a_bind(sessions, anonymous):
    """Timeouts that a session was given before or with the sign-in go on with it."""
    anonymous.set_timeouts(idle=timedelta(days=7), absolute=timedelta(days=30), persistent=False)

    sessions.bind(anonymous, "ada")

    loaded = sessions.load(anonymous.identifier)
    assert (loaded.idle_timeout, loaded.absolute_timeout) == (timedelta(days=7), timedelta(days=30))
    assert loaded.persistent is False


def test_unbind_goes_on_anonymously(sessions, anonymous, server):
    """A sign-out ends the subject's session; what is left goes on under a new identifier."""
    sessions.bind(anonymous, "ada")
    first = anonymous.identifier

    sessions.unbind(anonymous)

    assert sessions.load(first) is None
    loaded = sessions.load(anonymous.identifier)
    assert (loaded.subject, dict(loaded)) == (None, {"cart": ["book"], "n": 1})
    assert handles(sessions, "ada") == set()
    assert len(server.left()) == 1


def test_unbind_of_an_empty_session(sessions, server):
    """Where nothing is left, nothing goes on."""
    session = sessions.new()
    sessions.bind(session, "ada")

    sessions.unbind(session)

    assert session.status is Status.REVOKED
    assert server.left() == []


@pytest.mark.requirement("R20")
def test_unbind_of_an_ended_session(sessions, anonymous, server):
    """Signing out of a session that has ended raises and leaves no anonymous one."""
    sessions.bind(anonymous, "ada")
    sessions.revoke_all("ada")

    with pytest.raises(SessionRevoked):
        sessions.unbind(anonymous)

    assert server.left() == []


def test_unbind_of_an_anonymous_session(sessions, anonymous, server):
    """Signing nobody out changes nothing: the session is not multiplied."""
    before = server.keys()

    sessions.unbind(anonymous)

    assert server.keys() == before
    assert sessions.load(anonymous.identifier) is not None


def test_unbind_takes_back_own_timeouts(sessions, anonymous):
    """What was granted to the subject ("remember me") does not go on with the anonymous session."""
    sessions.bind(anonymous, "ada")
    anonymous.set_timeouts(idle=timedelta(days=7), absolute=timedelta(days=30))
    sessions.save(anonymous)

    sessions.unbind(anonymous)

    loaded = sessions.load(anonymous.identifier)
    assert (loaded.idle_timeout, loaded.absolute_timeout) == (timedelta(minutes=30), timedelta(hours=12))


@pytest.mark.requirement("R28")
@pytest.mark.parametrize("user_id", [7, "7"])
def test_attribute_signs_in(named, user_id):
    """A save that finds the subject's attribute set binds the session to it."""
    session = named.create({"a": 1})
    first = session.identifier
    session["user_id"] = user_id

    named.save(session)

    assert named.load(first) is None
    loaded = named.load(session.identifier)
    assert (loaded.subject, loaded["user_id"]) == ("7", user_id)
    assert handles(named, "7") == {session.handle}


@pytest.mark.requirement("R28")
def test_attribute_of_a_created_session_signs_in(named):
    """A session created with the subject's attribute is that subject's from the start."""
    session = named.create({"user_id": 7})

    assert session.subject == "7"
    assert named.revoke_all("7") == 1
    assert named.load(session.identifier) is None


def test_attribute_changes_hands(named):
    """A save that finds another subject binds the session to that one."""
    session = named.create({"a": 1})
    session["user_id"] = 7
    named.save(session)
    first = session.identifier
    session["user_id"] = 8

    named.save(session)

    assert named.load(first) is None
    assert handles(named, "7") == set()
    assert handles(named, "8") == {session.handle}


@pytest.mark.parametrize("how", ["delete", "none", "empty"])
def test_attribute_signs_out(named, how):
    """A save that finds the subject's attribute gone unbinds the session."""
    session = named.create({"a": 1})
    session["user_id"] = 7
    named.save(session)
    first = session.identifier
    if how == "delete":
        del session["user_id"]
    else:
        session["user_id"] = None if how == "none" else ""

    named.save(session)

    assert named.load(first) is None
    loaded = named.load(session.identifier)
    assert (loaded.subject, dict(loaded)) == (None, {"a": 1})
    assert handles(named, "7") == set()


def test_cleared_session_is_signed_out(named, server):
    """Clearing a signed-in session signs out; nothing goes on."""
    session = named.create({"a": 1})
    session["user_id"] = 7
    named.save(session)
    session.clear()

    named.save(session)

    assert server.left() == []


def test_bind_sets_the_attribute(named):
    """A bind by hand sets the attribute too, and an unbind takes it away."""
    session = named.create({"a": 1})

    named.bind(session, "ada")
    assert named.load(session.identifier)["user_id"] == "ada"

    named.unbind(session)
    assert dict(named.load(session.identifier)) == {"a": 1}


def test_reading_the_subject_is_no_access(named):
    """The look at the subject's attribute does not count as the application's access."""
    session = named.create({"a": 1})
    loaded = named.load(session.identifier)

    named.save(loaded)

    assert loaded.accessed is False


@pytest.mark.requirement("R20")
def test_sign_in_loses_against_a_revocation_of_the_subject(named):
    """A request that changes hands while its session is revoked does not sign anybody in."""
    session = named.create({"user_id": 7})
    named.save(session)
    mine = named.load(session.identifier)
    named.revoke_all("7")
    mine["user_id"] = 8

    with pytest.raises(SessionRevoked):
        named.save(mine)

    assert handles(named, "8") == set()
