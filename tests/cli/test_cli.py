"""The command line: what it prints, what it does, and the codes it exits with."""

import json
import os
import pty
import subprocess
import sys
from datetime import timedelta
from importlib import metadata

import pytest
import redis

import coatcheck
from coatcheck import EventType, RevocationPending, SessionPolicy, new_key
from coatcheck.cli import main
from coatcheck.engine.access import access_rules
from coatcheck.model.keyring import Keyring
from coatcheck.runtime.key_files import read_key_file

USAGE = 2


@pytest.fixture
def command(server, key, monkeypatch, capsys):
    """Give a function that runs the command line on the server of the test: exit code, output, errors."""
    for name in [name for name in os.environ if name.startswith("COATCHECK_") and name != "COATCHECK_DEADLINE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COATCHECK_URL", server.url)
    monkeypatch.setenv("COATCHECK_KEYS", key)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["coatcheck", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


@pytest.fixture
def sessions(server, key):
    """Give the application's sessions."""
    with coatcheck.Sessions(server.url, keys=key) as sessions:
        yield sessions


def signed_in(sessions, **attributes):
    """Make a session of ada's."""
    session = sessions.create({"a": 1, **attributes})
    sessions.bind(session, "ada")
    return session


def fingerprint(text):
    """Give the fingerprint of a key."""
    return Keyring.parse(text).keys[0].fingerprint


def test_new_key(command):
    """A new key is printed alone, and is one."""
    code, out, _ = command("keys", "new")

    assert code == 0
    assert Keyring.parse(out.strip()).keys


def test_new_key_file(command, tmp_path):
    """A new file holds a key that is not shown; only its fingerprint is."""
    path = tmp_path / "keys"

    code, out, _ = command("keys", "new", path)

    assert code == 0
    assert out.strip() == read_key_file(path).keys[0].fingerprint
    refused = f"coatcheck: {path} is there already; to add a key: keys rotate {path}\n"
    assert command("keys", "new", path) == (2, "", refused)


@pytest.mark.requirement("R60")
def test_list_of_keys(command, monkeypatch, tmp_path, key):
    """Keys are listed by fingerprint, with their use and their source; none is shown itself."""
    other = new_key()
    monkeypatch.setenv("COATCHECK_KEYS", f"{key},{other}")

    code, out, err = command("keys", "list")

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{fingerprint(key)}\tseals and opens\tenvironment COATCHECK_KEYS",
        f"{fingerprint(other)}\topens\tenvironment COATCHECK_KEYS",
    ]
    assert key not in out


def test_list_of_keys_of_files(command, monkeypatch, tmp_path):
    """Keys of a file that is named on the command line come before those of the environment."""
    path, other = tmp_path / "keys", tmp_path / "other"
    command("keys", "new", path)
    command("keys", "new", other)
    monkeypatch.delenv("COATCHECK_KEYS")
    monkeypatch.setenv("COATCHECK_KEYS_FILE", str(other))

    from_argument, from_environment = command("keys", "list", "--keys-file", path)[1], command("keys", "list")[1]

    assert from_argument.rstrip().endswith(f"\targument, file {path}")
    assert from_environment.rstrip().endswith(f"\tenvironment COATCHECK_KEYS_FILE, file {other}")
    assert from_argument.split()[0] != from_environment.split()[0]


def test_no_keys(command, monkeypatch):
    """Without a key the command says what to set, and exits with 2."""
    monkeypatch.delenv("COATCHECK_KEYS")

    code, out, err = command("keys", "list")

    assert (code, out) == (2, "")
    assert err.startswith("coatcheck: sessions are stored sealed, and there is no key to seal them with")


def test_key_that_others_may_read(command, tmp_path):
    """A key file that others may read is refused."""
    path = tmp_path / "keys"
    command("keys", "new", path)
    path.chmod(0o644)

    code, _, err = command("keys", "list", "--keys-file", path)

    assert code == 2
    assert "other users may read the sealing key" in err


@pytest.mark.requirement("R36")
def test_rotation(command, server, tmp_path):
    """A key is rotated from the command line in its two steps, and nobody is signed out."""
    path = tmp_path / "keys"
    command("keys", "new", path)
    first = read_key_file(path).keys
    with coatcheck.Sessions(server.url, keys=path) as before:
        session = before.create({"a": 1})

    assert command("keys", "rotate", path)[0] == 0
    added = read_key_file(path).keys[-1]
    assert read_key_file(path).keys == (*first, added)
    assert command("keys", "rotate", path)[0] == 2
    code, out, _ = command("keys", "rotate", path, "--promote")
    assert (code, out) == (0, f"{added.fingerprint} is first now; restart every process\n")
    assert read_key_file(path).keys == (added, *first)
    refused = f"coatcheck: no key of {path} waits to be promoted: add one first with keys rotate {path}\n"
    assert command("keys", "rotate", path, "--promote") == (2, "", refused)
    assert read_key_file(path).keys == (added, *first)

    code, out, _ = command("keys", "reseal", "--keys-file", path)
    assert (code, out) == (0, "1 seen, 1 resealed, 0 changed meanwhile, 0 unreadable\n")
    with coatcheck.Sessions(server.url, keys=Keyring([added])) as after:
        assert after.load(session.identifier)["a"] == 1


def test_reseal_with_something_unreadable(command, server):
    """What no key opens is counted, and the code says that something is left."""
    with coatcheck.Sessions(server.url, keys=new_key()) as stranger:
        stranger.create({"a": 1})

    code, out, _ = command("keys", "reseal", "--batch", 10)

    assert (code, out) == (1, "1 seen, 0 resealed, 0 changed meanwhile, 1 unreadable\n")


@pytest.mark.requirement("R53")
def test_acl(command, acl_server, key):
    """The printed line is a command that makes the user; with a password it can do what sessions need."""
    code, out, _ = command("acl", "--prefix", "shop", "--user", "app", "--reseal", "--database", "--cluster")
    assert code == 0
    for node in acl_server.all_nodes:
        assert node.execute_command(*out.split()) == b"OK"

    nobody = redis.Redis.from_url(acl_server.of_one(acl_server.url_of("app", "")))
    with nobody, pytest.raises(redis.exceptions.AuthenticationError):
        nobody.ping()
    for node in acl_server.all_nodes:
        node.execute_command("ACL SETUSER", "app", ">secret")
    with coatcheck.Sessions(acl_server.url_of("app", "secret"), keys=key, prefix="shop") as sessions:
        assert sessions.load(sessions.create({"a": 1}).identifier)["a"] == 1
        sessions.reseal()


def test_acl_file(command):
    """The line for an ACL file says the same in the file's words."""
    code, out, _ = command("acl", "--aclfile", "--prefix", "shop")

    assert (code, out) == (0, f"user coatcheck on {' '.join(access_rules('shop'))}\n")


def test_acl_of_a_near_cache(command):
    """What a near cache needs is allowed where that is asked for."""
    code, out, _ = command("acl", "--near-cache", "--aclfile", "--prefix", "shop")

    assert (code, out) == (0, f"user coatcheck on {' '.join(access_rules('shop', near_cache=True))}\n")


@pytest.mark.parametrize("arguments", [("--prefix", "sh*p"), ("--user", "a b"), ("--user", "a\nb"), ("--user", "")])
def test_acl_of_what_is_none(command, arguments):
    """What could smuggle in another rule is refused."""
    code, out, _ = command("acl", *arguments)

    assert (code, out) == (2, "")


def test_sweep(command, server, sessions, key):
    """The sweep says how many sessions have ended; it needs no key."""
    session = signed_in(sessions)
    server.client.delete(*server.keys(session.handle.name))
    (index,) = server.keys("}:x")
    server.client.zadd(index, dict.fromkeys(server.client.zrange(index, 0, -1), 1))

    assert command("sweep") == (0, "1 session has ended\n", "")
    assert command("sweep") == (0, "0 sessions have ended\n", "")


@pytest.fixture
def session(sessions):
    """Give a session of ada's."""
    return signed_in(sessions)


@pytest.fixture
def kept_end(session, key, monkeypatch, tmp_path):
    """Give a session of ada's, and the outbox in which a process has left its end when the store was away."""
    outbox = tmp_path / "outbox"
    away = coatcheck.Sessions(f"unix://{tmp_path}/nothing", keys=key, outbox=outbox)
    with away, pytest.raises(RevocationPending):
        away.revoke_all("ada")
    monkeypatch.setenv("COATCHECK_OUTBOX", str(outbox))
    return session, outbox


@pytest.mark.requirement("R25")
def test_sweep_with_an_outbox(command, sessions, kept_end):
    """A sweep with the application's keys carries out what its outbox has kept, and says so."""
    session, outbox = kept_end

    code, out, err = command("sweep")

    assert (code, err) == (0, "")
    assert out == f"0 sessions have ended\n1 of 1 ends that {outbox} has kept are carried out\n"
    assert sessions.load(session.identifier) is None
    assert outbox.read_bytes() == b""


@pytest.mark.requirement("R25")
def test_sweep_without_the_keys(command, sessions, kept_end, monkeypatch):
    """A sweep without a key, or with another than the application's, leaves the outbox as it is, and says why."""
    session, outbox = kept_end
    before = outbox.read_bytes()

    monkeypatch.setenv("COATCHECK_KEYS", new_key())
    assert command("sweep")[:2] == (0, "0 sessions have ended\n")
    assert outbox.read_bytes() == before
    monkeypatch.delenv("COATCHECK_KEYS")
    code, out, err = command("sweep")

    assert (code, out) == (0, "0 sessions have ended\n")
    assert err == (
        f"coatcheck: {outbox} is left as it is: what it keeps can be carried out with the application's keys only, so "
        "set COATCHECK_KEYS or COATCHECK_KEYS_FILE too, or sweep from within the application\n"
    )
    assert outbox.read_bytes() == before
    assert sessions.load(session.identifier) is not None


@pytest.mark.parametrize("content", [b"", None])
def test_sweep_with_an_empty_outbox(command, monkeypatch, tmp_path, content):
    """Without a key, an outbox in which nothing is kept is not worth a word, and none is made."""
    outbox = tmp_path / "outbox"
    if content is not None:
        outbox.write_bytes(content)
    monkeypatch.setenv("COATCHECK_OUTBOX", str(outbox))
    monkeypatch.delenv("COATCHECK_KEYS")

    assert command("sweep") == (0, "0 sessions have ended\n", "")
    assert outbox.exists() == (content is not None)


@pytest.mark.requirement("R25")
def test_check_leaves_the_outbox(command, kept_end):
    """A command that works with any key does not open the outbox."""
    _, outbox = kept_end
    before = outbox.read_bytes()

    command("check")

    assert outbox.read_bytes() == before


def test_list_of_sessions(command, sessions):
    """A subject's sessions are listed one a line, with the attributes that were asked for."""
    session = signed_in(sessions, device="phone")

    code, out, _ = command("sessions", "list", "ada", "--attribute", "device", "--attribute", "none")

    assert code == 0
    handle, created, seen, idle, absolute, device, none = out.removesuffix("\n").split("\t")
    assert (handle, device, none) == (str(session.handle), "phone", "")
    assert created <= seen < idle < absolute
    assert session.identifier not in out
    assert command("sessions", "list", "bob")[:2] == (0, "")


def test_list_on_a_terminal(server, sessions, key):
    """On a terminal there are titles; what could control the terminal is written out."""
    signed_in(sessions, device="phone\x1b[31m\nnext")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COATCHECK_URL": server.url, "COATCHECK_KEYS": key, "TERM": "xterm", "NO_COLOR": "1"}
    code = "from coatcheck.cli import main; main()"
    arguments = [sys.executable, "-c", code, "sessions", "list", "ada", "--attribute", "device"]
    with subprocess.Popen(arguments, stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)

    assert process.returncode == 0
    titles, line = shown.decode().split("\r\n")[:2]
    assert [title for title in ("handle", "created", "last seen", "device") if title not in titles] == []
    assert r"phone\x1b[31m\nnext" in line
    assert b"\x1b[31m" not in shown


def _read(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end was closed
        return b""


@pytest.mark.requirement("R19")
def test_end(command, sessions):
    """A session is ended by its handle, once; the event says who did it and why."""
    session = signed_in(sessions)

    assert command("sessions", "end", session.handle, "--why", "stolen") == (0, f"{session.handle} has ended\n", "")
    assert sessions.load(session.identifier) is None
    assert command("sessions", "end", session.handle) == (1, f"there is no session {session.handle}\n", "")
    (event,) = [event for event in sessions.read_events("audit", "one") if event.type is EventType.REVOKED]
    assert (event.handle, event.by, event.why) == (session.handle, "command line", "stolen")


@pytest.mark.parametrize("arguments", [("end", "nonsense"), ("end-all", "ada", "--keep", "nonsense")])
def test_what_is_no_handle(command, sessions, arguments):
    """What is no handle is a mistake of usage, and ends nothing."""
    session = signed_in(sessions)

    code, _, err = command("sessions", *arguments)

    assert code == USAGE
    assert "a handle looks like" in err
    assert sessions.load(session.identifier) is not None


@pytest.mark.requirement("R21")
def test_end_all(command, sessions):
    """All sessions of a subject end, but for one where that was said."""
    kept, *others = [signed_in(sessions) for _ in range(3)]

    assert command("sessions", "end-all", "ada", "--keep", kept.handle) == (0, "2 sessions have ended\n", "")
    assert [sessions.load(session.identifier) for session in others] == [None, None]
    assert sessions.load(kept.identifier) is not None
    assert command("sessions", "end-all", "ada") == (0, "1 session has ended\n", "")


@pytest.mark.requirement("R21", "R60")
@pytest.mark.parametrize("name", ["list", "end-all", "erase"])
def test_where_nothing_was_found(command, session, sessions, key, name, monkeypatch):
    """Where nothing is found, that is no proof: it says under which keys and prefix it was looked for."""
    done = "" if name == "list" else "0 sessions have ended\n"
    text = (
        "coatcheck: no session of '{who}' was found under the prefix {prefix} and the key {keys}. With another prefix "
        "or other keys than the application's none is ever found: see COATCHECK_PREFIX and `coatcheck keys list`\n"
    )
    own, other, more = fingerprint(key), new_key(), new_key()

    shown = text.format(who="bob", prefix="cc", keys=own)
    assert command("sessions", name, "bob") == (0, done, shown)
    shown = text.format(who="ada", prefix="shop", keys=own)
    assert command("sessions", name, "ada", "--prefix", "shop") == (0, done, shown)
    monkeypatch.setenv("COATCHECK_KEYS", f"{other},{more}")
    monkeypatch.setenv("COATCHECK_PREFIX", "cc")
    shown = text.format(who="ada", prefix="cc", keys=f"{fingerprint(other)} or {fingerprint(more)}")
    assert command("sessions", name, "ada") == (0, done, shown)
    assert sessions.load(session.identifier) is not None


def test_nothing_but_the_kept_session(command, session):
    """Where the session that is to be kept is the only one there is, no mistake is suspected."""
    assert command("sessions", "end-all", "ada", "--keep", session.handle) == (0, "0 sessions have ended\n", "")


@pytest.mark.requirement("R60")
def test_erase(command, sessions, server, key):
    """A subject is erased: no session is left, nothing of the compartments that were named, and no event."""
    policy = SessionPolicy(compartments={"cart": timedelta(minutes=9)})
    with coatcheck.Sessions(server.url, keys=key, policy=policy) as shop:
        session = signed_in(shop)
        session.compartment("cart")["a"] = 1
        shop.save(session)

    done = command("sessions", "erase", "ada", "--compartment", "cart")

    assert done == (0, "1 session has ended, and nothing is kept\n", "")
    assert server.keys(session.handle.name) == []
    told = [event.subject_digest for event in sessions.read_events("test", "one")]
    assert set(told) & sessions.subject_digests("ada") == set()


def test_store_that_is_not_there(command, monkeypatch, tmp_path):
    """A store that cannot be reached is exit code 3, with a line that says where it was looked for."""
    monkeypatch.setenv("COATCHECK_URL", f"unix://{tmp_path}/nothing")

    code, out, err = command("sessions", "list", "ada")

    assert (code, out) == (3, "")
    assert err.startswith(f"coatcheck: unix://{tmp_path}/nothing cannot be reached")


@pytest.mark.requirement("R25")
def test_end_in_an_outage(command, monkeypatch, tmp_path, session):
    """An end that is not confirmed is exit code 3; the text promises nothing that nobody does."""
    monkeypatch.setenv("COATCHECK_URL", f"unix://{tmp_path}/nothing")

    for arguments in (("end-all", "ada"), ("end", session.handle)):
        code, out, err = command("sessions", *arguments)

        assert (code, out) == (3, "")
        assert err.startswith(
            f"coatcheck: NOT confirmed, so count on nothing: unix://{tmp_path}/nothing cannot be reached"
        )
        assert err.endswith(". Nobody goes on with it: run the command again when the store answers\n")
        assert "this process" not in err


@pytest.mark.requirement("R25")
def test_end_in_an_outage_with_an_outbox(command, monkeypatch, tmp_path, sessions, server, session):
    """With an outbox the text says where the end is kept and who carries it out, and that is so."""
    outbox = tmp_path / "outbox"
    monkeypatch.setenv("COATCHECK_OUTBOX", str(outbox))
    monkeypatch.setenv("COATCHECK_URL", f"unix://{tmp_path}/nothing")

    code, out, err = command("sessions", "end-all", "ada")

    assert (code, out) == (3, "")
    assert err.startswith("coatcheck: NOT confirmed, so count on nothing: ")
    assert err.endswith(
        f". It is kept in {outbox}: `coatcheck sweep`, or a process that starts, with this outbox and the same keys "
        "carries it out. To be sure of it sooner, run the command again when the store answers\n"
    )
    monkeypatch.setenv("COATCHECK_URL", server.url)
    assert command("sweep")[0] == 0
    assert sessions.load(session.identifier) is None


@pytest.mark.requirement("R60")
def test_password_is_not_shown(command, monkeypatch):
    """No error repeats the password of the address."""
    monkeypatch.setenv("COATCHECK_URL", "redis://user:hunter2@127.0.0.1:1")

    code, out, err = command("sweep")

    assert code == 3
    assert "hunter2" not in out + err


def test_wrong_address(command, monkeypatch):
    """An address that is none is exit code 2."""
    monkeypatch.setenv("COATCHECK_URL", "memcached://h")

    assert command("sweep")[0] == 2


def test_version(command):
    """The command says which version it is."""
    assert command("--version") == (0, f"coatcheck {metadata.version('coatcheck')}\n", "")


def test_usage(command):
    """Without arguments the command says what it can do; with wrong ones it exits with 2."""
    assert "keys" in "".join(command()[1:])
    assert command("nonsense")[0] == USAGE


def test_without_the_extra():
    """Without typer the command says which extra it needs."""
    code = "import sys; sys.modules['typer'] = None\nfrom coatcheck.cli import main; main()"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert result.stderr == 'the command line needs the extra cli: pip install "coatcheck[cli]"\n'


@pytest.mark.requirement("R18")
def test_policy(command):
    """A ready policy is printed with its settings and what departs from a level; with reasons wanting the code is 1."""
    code, out, _ = command("policy", "aal2", "--level", 2)
    assert code == 0
    assert "no deviation" in out

    code, out, _ = command("policy", "shop", "--level", 2)
    assert code == 1
    assert "absolute_timeout is 30 days" in out


@pytest.mark.requirement("R18")
def test_policy_of_the_application(command, tmp_path, monkeypatch):
    """The application's own policy is found by module and name, with the reasons that it gives."""
    (tmp_path / "own_rules.py").write_text(
        "from datetime import timedelta\n"
        "from coatcheck import SessionPolicy\n"
        "from coatcheck.model import profiles\n"
        "POLICY = SessionPolicy(absolute_timeout=timedelta(hours=26))\n"
        "REPORT = profiles.report(POLICY, 2, reasons={'absolute_timeout': 'night shifts'})\n"
        "NONE = 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    code, out, _ = command("policy", "own_rules:POLICY", "--level", 2, "--json")
    assert code == 1
    assert json.loads(out)["settings"]["absolute_timeout"] == 26 * 3600
    code, out, _ = command("policy", "own_rules:REPORT")
    assert code == 0
    assert "night shifts" in out
    for name in ("own_rules:NONE", "own_rules:ABSENT", "absent_module:POLICY", "nonsense"):
        assert command("policy", name)[0] == USAGE
