"""TLS and credentials over all topologies, and their rotation while they are used: Debian's Redis 7."""

import asyncio
import gc
import socket
import ssl
from datetime import timedelta

import pytest
import redis
from redis.credentials import CredentialProvider

from coatcheck import ConfigurationError, StoreUnavailable
from coatcheck.runtime.address import Address
from coatcheck.runtime.asynchronous import AsyncTransport
from coatcheck.runtime.local.settings import Tls
from tests.fix_certificate import Authority

OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@pytest.fixture
def authority(tmp_path):
    """Give an authority."""
    return Authority(tmp_path)


def secured(authority, *, clients=True):
    """Give the TLS settings of servers."""
    certificate, key = authority.sign("server")
    return Tls(certificate=certificate, key=key, authority=authority.path, clients=clients)


def own(authority, **changed):
    """Give the options of a client with a certificate of its own."""
    paths = (authority.path, *authority.sign("client"))
    return dict(zip(OPTIONS, map(str, paths), strict=True)) | changed


@pytest.mark.requirement("R54")
@pytest.mark.parametrize("kind", ["single", "sentinel", "cluster"])
def test_every_topology_over_tls(start_topology, open_at, authority, kind):
    """Servers, sentinels and nodes are verified, and shown the client's certificate."""
    topology = start_topology(kind, server="redis-server", tls=secured(authority))
    url = topology.url.replace("sentinel://", "sentinels://").replace("cluster://", "clusters://")

    sessions = open_at(url, **own(authority))
    stored = [sessions.create({"n": number}) for number in range(20)]

    assert [sessions.load(session.identifier)["n"] for session in stored] == list(range(20))


@pytest.mark.requirement("R54")
def test_certificates_rotate(start_topology, open_at, authority):
    """New certificates of servers and clients are taken up by the next connection; nobody fails meanwhile."""
    topology = start_topology("single", server="redis-server", tls=secured(authority))
    sessions = open_at(topology.url, **own(authority))
    session = sessions.create({"n": 0})

    def count():
        mine = sessions.load(session.identifier)
        mine.increment("n")
        sessions.save(mine)

    seen = set()
    with topology.client("node1") as outside:
        for _ in range(3):
            count()
            authority.sign("client")
            authority.sign("server")
            outside.config_set("tls-cert-file", str(authority.folder / "server.pem"))
            seen.add(_serial(topology, authority))
            count()
            outside.client_kill_filter(_type="normal", skipme=True)
            count()

    assert sessions.load(session.identifier)["n"] == 9
    assert len(seen) == 3


def _serial(topology, authority):
    host, _, port = topology.addresses[0].partition(":")
    context = ssl.create_default_context(cafile=authority.path)
    context.load_cert_chain(authority.folder / "client.pem", authority.folder / "client.key")
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as line:
        return line.getpeercert()["serialNumber"]


@pytest.mark.requirement("R54")
@pytest.mark.parametrize("kind", ["single", "sentinel", "cluster"])
def test_wrong_authority(start_topology, open_at, authority, tmp_path, kind):
    """A certificate that the given authority has not signed is refused, with what to look at."""
    topology = start_topology(kind, server="redis-server", tls=secured(authority, clients=False))
    url = topology.url.replace("sentinel://", "sentinels://").replace("cluster://", "clusters://")
    (tmp_path / "other").mkdir()

    with pytest.raises(
        StoreUnavailable, match=r"its certificate is refused: .*See that ssl_ca_certs names the authority"
    ):
        open_at(url, ssl_ca_certs=str(Authority(tmp_path / "other").path)).create({"a": 1})


@pytest.mark.requirement("R54")
@pytest.mark.parametrize(
    ("host", "days", "words"), [("127.0.0.2", 1, "127.0.0.2"), ("127.0.0.1", -0.5, "certificate has expired")]
)
def test_wrong_host_and_date(start_topology, open_at, authority, host, days, words):
    """A certificate for another host, or one that has expired, is refused, and the text says which."""
    topology = start_topology(
        "single", server="redis-server", tls=secured(authority, clients=False), config=("bind 127.0.0.1 127.0.0.2",)
    )
    if days < 0:
        authority.sign("server", days=days)
        with topology.client("node1") as outside:
            outside.config_set("tls-cert-file", str(authority.folder / "server.pem"))

    with pytest.raises(StoreUnavailable, match=f"its certificate is refused: .*{words}"):
        open_at(topology.url.replace("127.0.0.1", host), ssl_ca_certs=str(authority.path)).create({"a": 1})


@pytest.mark.requirement("R54")
def test_missing_client_certificate(start_topology, open_at, authority):
    """A server that wants a certificate of its clients refuses who has none; that is no success in disguise."""
    topology = start_topology("single", server="redis-server", tls=secured(authority))

    with pytest.raises(StoreUnavailable, match="cannot be reached: "):
        open_at(topology.url, ssl_ca_certs=str(authority.path)).create({"a": 1})


class Changing(CredentialProvider):
    """Credentials that change."""

    def __init__(self):
        self.password = "first"

    def get_credentials(self):
        """Give user and password."""
        return "web", self.password


@pytest.mark.requirement("R54")
@pytest.mark.parametrize("kind", ["single", "sentinel", "cluster"])
def test_credentials_rotate(start_topology, open_at, kind):
    """A password changes on the servers and in the provider, with both good for a while; nobody fails."""
    topology = start_topology(kind)
    provider = Changing()
    names = ["node1"] if kind == "single" else ["node1", "node2", "node3"]

    def on_all(*command):
        for name in names:
            with topology.client(name) as client:
                client.execute_command(*command)

    on_all("ACL", "SETUSER", "web", "on", ">first", "~*", "&*", "+@all")
    sessions = open_at(topology.url, credential_provider=provider)
    session = sessions.create({"n": 0})
    for former, new in (("first", "second"), ("second", "third")):
        on_all("ACL", "SETUSER", "web", f">{new}")
        provider.password = new
        on_all("CLIENT", "KILL", "USER", "web")
        session.increment("n")
        sessions.save(session)
        on_all("ACL", "SETUSER", "web", f"<{former}")
        assert sessions.load(session.identifier)["n"] > 0
    provider.password = "first"
    on_all("CLIENT", "KILL", "USER", "web")

    with pytest.raises(ConfigurationError, match="refuses the user or the password: "):
        sessions.load(session.identifier)


def test_two_ways_to_sign_in(start_topology, open_at):
    """A provider beside a user in the URL is refused: it would not be clear who is meant."""
    url = start_topology("single").url.replace("redis://", "redis://ada:pw@")

    with pytest.raises(ConfigurationError, match="does not take these options: 'username' and 'password' cannot"):
        open_at(url, credential_provider=Changing()).create({"a": 1})


def test_client_of_redis_py_agrees(start_topology, authority):
    """The certificates of these tests are good: redis-py itself takes them."""
    topology = start_topology("single", server="redis-server", tls=secured(authority))
    with redis.Redis.from_url(topology.url, **own(authority)) as client:
        assert client.ping()


@pytest.mark.requirement("R54")
def test_authorities_are_read_once(start_topology, open_at, authority, monkeypatch):
    """However many connections are made, the files are read for the first one, and again when one was replaced."""
    made = []
    make = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: made.append(1) or make())
    topology = start_topology("single", server="redis-server", tls=secured(authority))
    options = own(authority)
    sessions = open_at(topology.url, **options)
    session = sessions.create({"n": 0})
    with topology.client("primary") as client:
        client.ping()
        made.clear()
        for _ in range(3):
            client.client_kill_filter(_type="normal", skipme=True)
            sessions.load(session.identifier)
        before = len(made)
        certificate, key = authority.sign("another")
        certificate.replace(options["ssl_certfile"])
        key.replace(options["ssl_keyfile"])
        client.client_kill_filter(_type="normal", skipme=True)
        sessions.load(session.identifier)

    assert (before, len(made)) == (0, 1)


@pytest.mark.parametrize("is_asked", [False, True])
def test_closed_beside_a_silent_server(start_topology, authority, is_asked):
    """A TLS connection is closed with its event loop also where the server does not answer that it is closed."""
    topology = start_topology("single", server="redis-server", tls=secured(authority))
    many = tuple(("PING",) for _ in range(20))  # so many have a connection of their own

    async def use():
        transport = AsyncTransport(Address(topology.url), own(authority, deadline=timedelta(seconds=1)))
        await transport.call(*many)
        topology.pause("primary")
        if is_asked:
            with pytest.raises(StoreUnavailable):
                await transport.call(*many)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

    gc.collect()  # what is still open now, pytest makes an error
