"""CSRF tokens and the life of their session: rotation and its grace, sign-in, keys, sessions that hold nothing else."""

from datetime import timedelta

import pytest

from coatcheck import SessionPolicy, Status, new_key

POLICY = SessionPolicy(subject_attribute="user_id")


@pytest.fixture
def stored(sessions):
    """Give a stored session."""
    return sessions.create({"a": 1})


def test_token_costs_nothing(sessions, stored, server):
    """To make a token and to check it sends nothing, and leaves a stored session as it is."""
    mine = sessions.load(stored.identifier)

    with server.commands() as commands:
        token = sessions.csrf_token(mine)
        assert sessions.is_csrf_token(mine, token)

    assert (commands, mine.status, mine.accessed) == ([], Status.CLEAN, True)


def test_within_the_grace(sessions, stored, clock):
    """A token from before a rotation is good as long as the former secret is."""
    mine = sessions.load(stored.identifier)
    token = sessions.csrf_token(mine)
    sessions.rotate(mine)
    clock.advance(timedelta(seconds=5))

    assert sessions.is_csrf_token(sessions.load(mine.identifier), token)


def test_after_the_grace(sessions, stored, clock):
    """After it, the token is good only where the browser vouches that it comes from a page of the site's own."""
    mine = sessions.load(stored.identifier)
    token = sessions.csrf_token(mine)
    sessions.rotate(mine)
    clock.advance(timedelta(seconds=11))
    now = sessions.load(mine.identifier)

    assert not sessions.is_csrf_token(now, token)
    assert sessions.is_csrf_token(now, token, is_own=True)


def test_many_rotations(sessions, stored, clock):
    """A page that was left open for more than 16 rotations is out of date, whatever the browser says."""
    mine = sessions.load(stored.identifier)
    token = sessions.csrf_token(mine)
    good = []
    for _ in range(17):
        sessions.rotate(mine)
        clock.advance(timedelta(seconds=11))
        good.append(sessions.is_csrf_token(mine, token, is_own=True))

    assert good == [True] * 16 + [False]


def test_loser_of_a_rotation(sessions, stored):
    """Of two requests that rotate at once, the page of the one that came second is good too."""
    first, second = sessions.load(stored.identifier), sessions.load(stored.identifier)
    first.rotate()
    second.rotate()
    tokens = [sessions.csrf_token(first), sessions.csrf_token(second)]
    sessions.save(first)
    sessions.save(second)

    winner = sessions.load(first.identifier)
    assert [sessions.is_csrf_token(winner, token) for token in tokens] == [True, True]


def test_former_secret(sessions, stored):
    """A page asked for with the former secret, within its grace, gets a token of the new one."""
    sessions.rotate(mine := sessions.load(stored.identifier))
    former = sessions.load(stored.identifier)

    token = sessions.csrf_token(former)

    assert former.is_superseded
    assert sessions.is_csrf_token(sessions.load(mine.identifier), token)


def test_other_sessions(sessions, stored):
    """A token is of no use in another session, also not in another one of the same subject."""
    one, other = sessions.create({}), sessions.create({})
    sessions.bind(one, "ada")
    sessions.bind(other, "ada")

    assert not sessions.is_csrf_token(other, sessions.csrf_token(one), is_own=True)
    assert not sessions.is_csrf_token(stored, sessions.csrf_token(one), is_own=True)


def test_new_session(sessions):
    """A session that is asked for a token is stored although it holds nothing, with the secret of that token."""
    session = sessions.new()
    tokens = [sessions.csrf_token(session), sessions.csrf_token(session)]
    assert not sessions.is_csrf_token(session, tokens[0])

    sessions.save(session)

    loaded = sessions.load(session.identifier)
    assert [sessions.is_csrf_token(loaded, token) for token in tokens] == [True, True]


def test_sign_in_of_a_new_session(open_sessions):
    """A token that was made before the request signs in is good when the session began with that request."""
    sessions = open_sessions(policy=POLICY)
    session = sessions.new()
    token = sessions.csrf_token(session)
    session["user_id"] = "ada"

    sessions.save(session)

    assert sessions.is_csrf_token(sessions.load(session.identifier), token)


def test_sign_in(open_sessions):
    """A token made after the sign-in was asked for is of the new secret; tokens from before are refused."""
    sessions = open_sessions(policy=POLICY)
    session = sessions.create({"cart": []})
    before = sessions.csrf_token(session)
    session["user_id"] = "ada"
    after = sessions.csrf_token(session)

    sessions.save(session)

    loaded = sessions.load(session.identifier)
    assert loaded.subject == "ada"
    assert sessions.is_csrf_token(loaded, after)
    assert not sessions.is_csrf_token(loaded, before, is_own=True)


def test_sign_out(open_sessions):
    """The page that answers a sign-out has a token of the anonymous session that goes on for it."""
    sessions = open_sessions(policy=POLICY)
    session = sessions.create({"user_id": "ada"})
    session.clear()
    token = sessions.csrf_token(session)

    sessions.save(session)

    loaded = sessions.load(session.identifier)
    assert (loaded.subject, dict(loaded)) == (None, {})
    assert sessions.is_csrf_token(loaded, token)


def test_session_left_with_nothing(sessions, stored):
    """A page that takes the last attribute (a message) out and has a form keeps its session."""
    mine = sessions.load(stored.identifier)
    del mine["a"]
    token = sessions.csrf_token(mine)

    sessions.save(mine)

    assert sessions.is_csrf_token(sessions.load(stored.identifier), token)


def test_rotation_of_a_session_that_holds_nothing(sessions):
    """A rotation, or other timeouts, do not end a session that was stored empty."""
    session = sessions.create({})
    sessions.rotate(session)
    session.set_timeouts(idle=timedelta(minutes=5))
    sessions.save(session)

    assert sessions.load(session.identifier).idle_timeout == timedelta(minutes=5)


def test_ended_session(sessions, stored):
    """There is no token of a session that was asked to end, and asking does not bring it back."""
    mine = sessions.load(stored.identifier)
    mine.revoke()
    token = sessions.csrf_token(mine)

    sessions.save(mine)

    assert (token, sessions.load(stored.identifier)) == ("", None)


def test_keys(open_sessions, key):
    """A token made with a former key is good while that key is in the ring."""
    former, newer = open_sessions(), open_sessions(keys=[new_key(), key])
    session = former.create({})
    token = former.csrf_token(session)

    assert newer.is_csrf_token(newer.load(session.identifier), token)
    assert not open_sessions(keys=new_key()).is_csrf_token(session, token)


@pytest.mark.requirement("R33")
def test_secrets_are_not_shown(sessions):
    """A token chosen beforehand shows in no repr."""
    session = sessions.new()
    sessions.csrf_token(session)

    assert repr(session) == "<Session new new>"
