"""The user that `coatcheck acl` describes: it can do all that sessions need, and nothing else."""

import asyncio
import re
from importlib.resources import files

import pytest
import redis

import coatcheck
from coatcheck import AtLimit, ConfigurationError, Durability, Level, SessionPolicy
from coatcheck.engine.access import access_rules
from coatcheck.engine.keys import Keys
from coatcheck.model.header import dictionary_of
from tests.fix_access import live
from tests.fix_store import Stepped

SOURCES = files("coatcheck")


@pytest.fixture(params=["sync", "async"])
def open_as_user(request, acl_server, key):
    """Give a function that makes sessions of a new user for the prefix "shop"."""
    loop, opened = asyncio.new_event_loop(), []

    def make(*, reseals=False, **options):
        options = {"url": acl_server.user("shop", reseals=reseals), "keys": key, "prefix": "shop", **options}
        is_sync = request.param == "sync"
        sessions = coatcheck.Sessions(**options) if is_sync else Stepped(coatcheck.AsyncSessions(**options), loop)
        opened.append(sessions)
        return sessions

    yield make
    for sessions in opened:
        sessions.close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.mark.requirement("R53")
def test_all_of_it_is_allowed(acl_server, open_as_user):
    """Everything that is done with sessions works as that user, and the server's ACL LOG stays empty."""
    live(open_as_user(policy=SessionPolicy(limit=2)))
    acl_server.client.script_flush()
    live(open_as_user(policy=SessionPolicy(limit=2, at_limit=AtLimit.EVICT_IDLEST)))

    assert acl_server.refused() == []


@pytest.mark.requirement("R53")
def test_sealing_keys_rotate(acl_server, open_as_user, key):
    """The same with a ring of two keys; to reseal is allowed where it was asked for."""
    live(open_as_user(policy=SessionPolicy(limit=2), keys=[coatcheck.new_key(), key]))
    open_as_user().create({"a": 1})
    assert open_as_user(keys=[coatcheck.new_key(), key], reseals=True).reseal().resealed == 1

    assert acl_server.refused() == []


@pytest.mark.requirement("R53")
def test_dictionaries(acl_server, open_as_user):
    """A dictionary is trained, used and dropped where resealing is allowed; to use one takes nothing more."""
    user, keeper = open_as_user(), open_as_user(reseals=True)
    for number in range(210):
        user.create({"n": number, "text": "what all of these sessions have in common " * 3})
    done = keeper.train_dictionary()
    session = open_as_user().create({"n": 1, "text": "what all of these sessions have in common " * 3})
    assert dictionary_of(acl_server.client.get(Keys("shop").record(session.handle))) == done.dictionary.id
    assert user.load(session.identifier)["n"] == 1
    assert len(user.dictionaries()) == 1
    assert not keeper.drop_dictionary(f"{done.dictionary.id:08x}").deleted

    assert acl_server.refused() == []


@pytest.mark.requirement("R53")
def test_resealing_has_to_be_allowed(acl_server, open_as_user):
    """Without SCAN, which shows the names of everybody's keys, resealing is refused with words that say why."""
    with pytest.raises(ConfigurationError, match=r"does not let this user do what sessions need: .*scan"):
        open_as_user().reseal()

    assert acl_server.refused() == ["command scan"]


@pytest.mark.requirement("R53")
@pytest.mark.parametrize(
    "command",
    [
        ("EVAL", "return 1", 0),
        ("EVAL_RO", "return 1", 0),
        ("FUNCTION", "LIST"),
        ("SCRIPT", "FLUSH"),
        ("KEYS", "*"),
        ("SCAN", 0),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("SHUTDOWN", "NOSAVE"),
        ("SLOWLOG", "GET"),
        ("INFO",),
        ("DBSIZE",),
        ("SAVE",),
        ("REPLICAOF", "NO", "ONE"),
        ("MODULE", "LIST"),
        ("SELECT", 1),
        ("DUMP", "shop:{06S}:x"),
        ("RENAME", "shop:{06S}:x", "shop:{06S}:y"),
        ("PERSIST", "shop:{06S}:x"),
        ("XGROUP", "DESTROY", "shop:{06S}:e", "audit"),
        ("PUBSUB", "CHANNELS"),
    ],
    ids=lambda command: " ".join(map(str, command[:2])),
)
def test_nothing_else_is_allowed(acl_server, command):
    """Commands that sessions do not need are refused, above all those that look around or change the server."""
    with (
        redis.Redis.from_url(acl_server.of_one(acl_server.user("shop"))) as client,
        pytest.raises(redis.exceptions.ResponseError, match=r"no permission|unknown command"),
    ):
        client.execute_command(*command)


@pytest.mark.requirement("R53")
def test_no_command_is_dangerous(acl_server):
    """None of the commands is one that the server itself calls administrative or dangerous, whatever is asked for."""
    rules = access_rules("shop", reseals=True, numbered=True, clustered=True, near_cache=True)
    allowed = {rule[1:] for rule in rules if rule[0] == "+"}
    dangerous = {name for category in ("admin", "dangerous") for name in acl_server.client.acl_cat(category)}

    assert len(dangerous) > 20
    assert allowed & dangerous == set()


@pytest.mark.requirement("R53")
def test_no_command_too_many():
    """The rules allow the commands that the scripts run, and those that are sent, and no others."""
    scripts = "".join(path.read_text() for path in (SOURCES / "engine" / "lua").iterdir())
    engine = "".join(path.read_text() for path in (SOURCES / "engine").iterdir() if path.name.endswith(".py"))
    runtime = "".join(
        (SOURCES / "runtime" / name).read_text() for name in ("batch.py", "topology.py", "channel.py", "near.py")
    )
    used = {" ".join(filter(None, found)) for found in re.findall(r"redis\.p?call\('(\w+)'(?:, '(CREATE)')?", scripts)}
    used |= set(re.findall(r"\(\"([A-Z]+)\",", engine))
    used |= {" ".join(filter(None, found)) for found in re.findall(r"\(\"([A-Z]+)\",(?: \"([A-Z]+)\")?", runtime)}
    used -= {"HELLO", "SENTINEL"}  # the one needs no permission, the other is put to sentinels
    used |= set(re.findall(r"_hub\.(psubscribe|punsubscribe|subscribe|ping)\(", runtime))

    waits = Durability(save=Level.REPLICAS, sign_in=Level.DISK)
    rules = access_rules("shop", reseals=True, clustered=True, durability=waits, near_cache=True)
    allowed = {rule[1:] for rule in rules if rule[0] == "+"}

    assert allowed == {name.lower().replace(" ", "|") for name in used}


def test_rules_of_a_prefix():
    """The rules begin from nothing and name the prefix's keys and its channels alone."""
    rules = access_rules("shop")

    assert rules[:5] == ("resetkeys", "~shop:{*", "resetchannels", "&shop:{*}:e", "-@all")
    assert all(re.fullmatch(r"\+[a-z]+(\|[a-z]+)?", rule) for rule in rules[5:])
    assert set(access_rules("shop", reseals=True)) - set(rules) == {"+scan"}
    assert set(access_rules("shop", numbered=True)) - set(rules) == {"+select"}
    assert set(access_rules("shop", near_cache=True)) - set(rules) == {"+client|tracking", "+subscribe"}
    assert set(access_rules("shop", clustered=True)) - set(rules) == {"+cluster|slots", "+asking"}
    assert set(access_rules("shop", durability=Durability(save=Level.REPLICAS))) - set(rules) == {"+wait"}
    assert set(access_rules("shop", durability=Durability(revocation=Level.DISK))) - set(rules) == {"+waitaof"}


def test_rules_of_no_prefix():
    """What is no prefix gets no rules: a star in it would open every key."""
    with pytest.raises(ConfigurationError, match="a prefix is"):
        access_rules("sh*p")


@pytest.mark.requirement("R53")
def test_database_of_a_number(acl_server, key):
    """A URL that names a database works where that was asked for."""
    url = acl_server.user("shop", numbered=True)
    url += "&db=2" if "?" in url else "?db=2"
    if url.startswith("cluster"):
        pytest.skip("a Cluster has no databases")  # it knows number 0 alone, so there is nothing to allow

    with coatcheck.Sessions(url, keys=key, prefix="shop") as sessions:
        assert sessions.load(sessions.create({"a": 1}).identifier)["a"] == 1

    assert acl_server.refused() == []


@pytest.mark.requirement("R53")
def test_listening(acl_server, key):
    """The user hears what the scripts tell on the prefix's channels."""
    url = acl_server.user("shop")
    with (
        redis.Redis.from_url(acl_server.of_one(url), protocol=2, driver_info=None) as client,
        client.pubsub() as hub,
        coatcheck.Sessions(url, keys=key, prefix="shop") as sessions,
    ):
        hub.psubscribe(Keys("shop").all_events)
        assert hub.get_message(timeout=5)["type"] == "psubscribe"
        hub.ping()
        assert hub.get_message(timeout=5)["type"] == "pong"
        session = sessions.create({"a": 1})
        told = hub.get_message(timeout=5)

    assert told["data"].startswith(f"created\n{session.handle.name}\n".encode())
    assert acl_server.refused() == []
