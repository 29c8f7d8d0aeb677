"""Sessions that are linked to those of an OpenID Connect issuer, and end with them."""

from datetime import timedelta

import pytest

import coatcheck
from coatcheck import EventType, IssuerSession, SessionPolicy, SessionRevoked

ISSUER = "https://id.example.org"
NOW = 1_767_225_600
HOUR = timedelta(hours=1)
BY_ATTRIBUTE = SessionPolicy(subject_attribute="user_id")

pytestmark = pytest.mark.requirement("R27")


def issued(sid="s-1", subject="ada@idp", at=NOW):
    """Make what an ID token says."""
    return IssuerSession(ISSUER, subject, sid, at)


def logout(sid=None, subject=None, at=NOW):
    """Make what a logout token says."""
    return IssuerSession(ISSUER, subject, sid, at)


def signed_in(sessions, link=None, subject="ada", lasting=None):
    """Sign *subject* in, by *link*. lasting: the timeouts of this session."""
    session = sessions.create({"a": 1})
    if lasting is not None:
        session.set_timeouts(idle=lasting, absolute=lasting)
    session.issuer_session = link or issued()
    sessions.bind(session, subject)
    return session


def lives(sessions, session):
    """Say whether a session is there."""
    return sessions.load(session.identifier) is not None


def test_by_session_id(sessions):
    """A logout that names a session at the issuer ends the sessions linked to it, however many, and no others."""
    first, second, other = (signed_in(sessions, issued(sid)) for sid in ("s-1", "s-1", "s-2"))

    assert sessions.revoke_issued(logout("s-1")) == 2

    assert [lives(sessions, session) for session in (first, second, other)] == [False, False, True]
    assert len(sessions.list_for("ada")) == 1


def test_by_subject(sessions):
    """A logout that names a subject alone ends all its sessions, with an id at the issuer and without."""
    mine = [signed_in(sessions, issued("s-1")), signed_in(sessions, issued(None))]
    other = signed_in(sessions, issued(None, "bob@idp"), "bob")

    assert sessions.revoke_issued(logout(subject="ada@idp")) == 2

    assert [lives(sessions, session) for session in (*mine, other)] == [False, False, True]


def test_by_both(sessions):
    """With an id and a subject, the session of that id ends, and what the issuer gave no id: that may be it."""
    named, other, unnamed = (signed_in(sessions, issued(sid)) for sid in ("s-1", "s-2", None))

    assert sessions.revoke_issued(logout("s-1", "ada@idp")) == 2

    assert [lives(sessions, session) for session in (named, other, unnamed)] == [False, True, False]


def test_of_another_issuer(sessions):
    """The same ids at another issuer are somebody else's."""
    session = signed_in(sessions)

    assert sessions.revoke_issued(IssuerSession("https://other.example.org", "ada@idp", "s-1")) == 0

    assert lives(sessions, session)


def test_of_another_prefix(sessions, open_sessions):
    """A logout ends the sessions of its own prefix."""
    session = signed_in(sessions)

    assert open_sessions(prefix="other").revoke_issued(logout("s-1")) == 0

    assert lives(sessions, session)


def test_not_linked(sessions):
    """Sessions that were not linked are nobody's at the issuer; nothing of an index is stored for them."""
    session = sessions.create({"a": 1})
    sessions.bind(session, "ada@idp")

    assert sessions.revoke_issued(logout(subject="ada@idp")) == 0

    assert lives(sessions, session)
    assert sessions.load(session.identifier).issuer_session is None


def test_again(sessions):
    """A logout that is sent again ends nothing more."""
    signed_in(sessions)
    assert sessions.revoke_issued(logout("s-1", "ada@idp")) == 1

    assert sessions.revoke_issued(logout("s-1", "ada@idp")) == 0


def test_again_after_a_new_sign_in(sessions):
    """Neither does it end what has begun after it, with another id or with none."""
    sessions.revoke_issued(logout("s-1", "ada@idp", NOW))
    named, unnamed = signed_in(sessions, issued("s-2")), signed_in(sessions, issued(None, at=NOW + 1))
    sessions.revoke_issued(logout(subject="bob@idp"))

    assert sessions.revoke_issued(logout("s-1", "ada@idp", NOW)) == 0

    assert lives(sessions, named)
    assert lives(sessions, unnamed)


def test_subject_signs_in_again(sessions):
    """After a logout by subject, a sign-in that the issuer vouches for later is not refused, nor ended by a replay."""
    sessions.revoke_issued(logout(subject="ada@idp"))

    session = signed_in(sessions, issued("s-2", at=NOW + 1))

    assert sessions.revoke_issued(logout(subject="ada@idp")) == 0
    assert lives(sessions, session)


@pytest.mark.parametrize(
    ("ended", "link"),
    [
        (logout("s-1"), issued("s-1")),
        (logout("s-1"), issued("s-1", at=NOW + 60)),
        (logout(subject="ada@idp"), issued("s-1")),
        (logout(subject="ada@idp"), issued(None)),
        (logout(subject="ada@idp"), issued(None, at=None)),
        (logout("s-1", "ada@idp"), issued(None)),
    ],
    ids=str,
)
def test_sign_in_that_comes_too_late(sessions, server, ended, link):
    """A sign-in from before a logout is refused for an hour; what the session held ends with the next save."""
    session = sessions.create({"a": 1})
    sessions.revoke_issued(ended)
    session.issuer_session = link

    with pytest.raises(SessionRevoked, match=f"^{ISSUER} has ended the session that this sign-in is from: let it sign"):
        sessions.bind(session, "ada")

    assert lives(sessions, session)
    sessions.save(session)
    assert session.status is coatcheck.Status.REVOKED
    assert server.keys(":s:") == []
    assert sessions.list_for("ada") == []


def test_mark_lasts_for_an_hour(sessions, clock):
    """After that nothing is left of the logout."""
    sessions.revoke_issued(logout("s-1"))
    clock.advance(timedelta(minutes=59))
    with pytest.raises(SessionRevoked):
        signed_in(sessions)
    clock.advance(timedelta(minutes=1))

    assert lives(sessions, signed_in(sessions))


def test_subject_without_a_time(sessions):
    """A logout that does not say when it was issued means now, by the store's clock."""
    old, new = signed_in(sessions, issued(at=NOW)), signed_in(sessions, issued("s-2", at=2**40))

    assert sessions.revoke_issued(logout(subject="ada@idp", at=None)) == 1

    assert [lives(sessions, session) for session in (old, new)] == [False, True]


def test_it_stays_linked(sessions):
    """What a session is linked to is known on every server, through saves, rotations and a step-up."""
    session = signed_in(sessions)
    session = sessions.load(session.identifier)
    session["b"] = 2
    sessions.rotate(session)
    sessions.bind(session, "ada", assurance=2)

    assert sessions.load(session.identifier).issuer_session == issued()
    assert sessions.revoke_issued(logout("s-1")) == 1
    assert not lives(sessions, session)


def test_linked_anew(sessions):
    """A sign-in by another token links the session to that one's."""
    session = signed_in(sessions)
    session.issuer_session = issued("s-2")
    sessions.bind(session, "ada")

    assert sessions.revoke_issued(logout("s-1")) == 0
    assert sessions.revoke_issued(logout("s-2")) == 1


def test_another_subject_is_not_linked(sessions):
    """Who signs in over somebody else's session does not take over what that one was linked to."""
    session = signed_in(sessions)
    sessions.bind(session, "bob")

    assert session.issuer_session is None
    assert sessions.revoke_issued(logout("s-1")) == 0
    assert lives(sessions, session)


def test_signed_out(sessions):
    """After a sign-out what goes on is not linked."""
    session = signed_in(sessions)
    session.issuer_session = issued("s-2")
    sessions.unbind(session)
    sessions.save(session)

    assert session.issuer_session is None
    assert lives(sessions, session)


def test_by_attribute(open_sessions):
    """Where the policy's subject_attribute signs in, issuer_session is set beside it, and the save links."""
    sessions = open_sessions(policy=BY_ATTRIBUTE)
    session = sessions.new()
    session["user_id"], session.issuer_session = "ada", issued()
    sessions.save(session)

    assert sessions.load(session.identifier).issuer_session == issued()
    assert sessions.revoke_issued(logout("s-1")) == 1


def test_by_attribute_again(open_sessions):
    """The same subject's next token is a sign-in: a new handle, linked to the new session at the issuer."""
    sessions = open_sessions(policy=BY_ATTRIBUTE)
    session = sessions.new()
    session["user_id"], session.issuer_session = "ada", issued()
    sessions.save(session)
    session, former = sessions.load(session.identifier), session.handle
    session["user_id"], session.issuer_session = "ada", issued("s-2")
    token = sessions.csrf_token(session)
    sessions.save(session)

    assert session.handle != former
    assert sessions.is_csrf_token(sessions.load(session.identifier), token)
    assert sessions.revoke_issued(logout("s-1")) == 0
    assert sessions.revoke_issued(logout("s-2")) == 1


def test_nobody_signs_in(sessions):
    """A link that nobody signs in with is refused: it would be forgotten."""
    session = sessions.create({"a": 1})
    session.issuer_session = issued()

    with pytest.raises(ValueError, match=r"^issuer_session was set and nobody signed in: bind the session in the same"):
        sessions.save(session)


def test_no_issuer_session(sessions):
    """What is none is refused where it is set: claims, above all."""
    session = sessions.new()

    with pytest.raises(TypeError, match=r"^issuer_session is an IssuerSession, as IssuerSession.of\(claims\) makes it"):
        session.issuer_session = {"iss": ISSUER}


def test_events(sessions):
    """The ends are told, with the issuer as the one who ended them; a reason may be given."""
    one, other = signed_in(sessions), signed_in(sessions, issued("s-2"))
    sessions.revoke_issued(logout("s-1"))
    sessions.revoke_issued(logout("s-2"), why="account closed")

    told = {event.handle: event for event in sessions.read_events("g", "c") if event.type is EventType.REVOKED}
    assert (told[one.handle].by, told[one.handle].why) == (ISSUER, "back-channel logout")
    assert told[other.handle].why == "account closed"
    assert told[one.handle].subject_digest in sessions.subject_digests("ada")


def test_long_issuer(sessions):
    """An issuer with a long name is cut in the events, and told apart from others all the same."""
    long = ISSUER + "/" + "a" * 400
    session = signed_in(sessions, IssuerSession(long + "1", "ada@idp", "s-1"))

    assert sessions.revoke_issued(IssuerSession(long + "2", "ada@idp", "s-1")) == 0
    assert sessions.revoke_issued(IssuerSession(long + "1", "ada@idp", "s-1")) == 1
    assert not lives(sessions, session)


def test_key_rotation(open_sessions, key):
    """Links and marks from before a rotation of the sealing keys count after it, and the other way round."""
    new_key = coatcheck.new_key()
    before, during, after = open_sessions(), open_sessions(keys=[key, new_key]), open_sessions(keys=[new_key, key])
    session = signed_in(before)
    assert after.revoke_issued(logout("s-1")) == 1
    assert not lives(before, session)

    session = signed_in(after, issued("s-2"))
    assert during.revoke_issued(logout(subject="ada@idp")) == 1
    assert not lives(after, session)
    with pytest.raises(SessionRevoked):
        signed_in(after, issued("s-3"))
    with pytest.raises(SessionRevoked):
        signed_in(during, issued("s-3"))


def test_session_that_does_not_open(sessions, server):
    """A listed session whose record is damaged is ended: nobody can say that it is not meant."""
    session = signed_in(sessions)
    (name,) = server.keys(":s:")
    record = server.client.get(name)
    server.client.set(name, record[:-1] + bytes([record[-1] ^ 1]), keepttl=True)

    assert sessions.revoke_issued(logout("s-1")) == 1

    assert server.client.get(name) is None
    assert session.handle is not None


def test_longer_timeouts(sessions, clock):
    """A session that is given a later deadline stays linked until then."""
    session = signed_in(sessions)
    session.set_timeouts(idle=timedelta(days=30), absolute=timedelta(days=30))
    sessions.save(session)
    clock.advance(timedelta(days=29))

    assert sessions.revoke_issued(logout("s-1")) == 1
    assert not lives(sessions, session)


def test_remembered_from_the_sign_in(sessions, clock):
    """So does one that gets its own timeouts with the sign-in."""
    signed_in(sessions, lasting=timedelta(days=30))
    clock.advance(timedelta(days=29))

    assert sessions.revoke_issued(logout("s-1")) == 1


def test_every_key_has_a_ttl(sessions, server, clock):
    """No index is without a TTL, and when the sessions have ended none is left; a short one shortens no other's."""
    signed_in(sessions, lasting=timedelta(days=2))
    signed_in(sessions)
    sessions.revoke_issued(logout("s-9", "ada@idp"))
    assert server.keys_without_ttl() == []
    indexes = server.keys(":o:")
    assert sorted(server.client.pttl(name) > 2 * 24 * HOUR / timedelta(milliseconds=1.01) for name in indexes) == [
        False,
        True,
        True,
    ]

    clock.advance(timedelta(days=2))

    assert server.keys(":o:") == []


def test_what_is_over_is_dropped(sessions, server, clock):
    """Links whose session is over, and marks, go with the next sign-in or logout of the same index."""
    long = signed_in(sessions, lasting=timedelta(days=2))
    signed_in(sessions)
    sessions.revoke_issued(logout("s-2", "ada@idp"))
    clock.advance(timedelta(hours=13))

    sessions.revoke_issued(logout("s-3", "ada@idp"))

    indexes = [server.client.zrange(name, 0, -1) for name in server.keys(":o:")]
    assert [b"rest:1767225600", str(long.handle).encode()] in indexes
    assert len(indexes) == 3


def test_names_say_nothing(sessions, server):
    """Neither issuer nor subject nor id stands in the store, but the issuer in the event of an end."""
    signed_in(sessions)
    contents = b"".join([*map(str.encode, server.keys()), *server.contents().values()])

    assert not [word for word in (ISSUER, "ada@idp", "s-1") if word.encode() in contents]


def test_round_trips(sessions, server):
    """A sign-in takes two round trips more where it is linked, and none where it is not."""
    signed_in(sessions)
    session, plain = sessions.create({"a": 1}), sessions.create({"a": 1})
    session.issuer_session = issued("s-2")

    with server.commands() as commands:
        sessions.bind(session, "ada")
    linked = [command.split()[0] for command in commands]
    with server.commands() as commands:
        sessions.bind(plain, "ada")

    assert linked == ["EVALSHA"] * 6  # two indexes, the session, the indexes again, the former session
    assert [command.split()[0] for command in commands] == ["EVALSHA"] * 2
