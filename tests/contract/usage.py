"""Sessions used in every way and refused in every way, with canaries in all that is secret."""

import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

import coatcheck
from coatcheck import AtLimit, ClientPolicy, CookiePolicy, SessionPolicy, SourcePolicy
from coatcheck.engine.exchange import Exchange
from coatcheck.model.keyring import Keyring
from coatcheck.model.ticket import Handle, Ticket
from coatcheck.runtime.sync import run
from tests.fix_access import elsewhere
from tests.fix_store import MovableClock, Stepped
from tests.waiting import wait_until

MINUTE = timedelta(minutes=1)
POLICY = SessionPolicy(
    limit=3,
    listed=("device",),
    compartments={"cart": 10 * MINUTE},
    rotating=("roles",),
    subject_attribute="user_id",
    max_bytes=4096,
    max_attributes=12,
)


class Noting:
    """Sessions that note which of their operations were used."""

    def __init__(self, sessions, used):
        self._sessions = sessions
        self._used = used

    def __getattr__(self, name):
        self._used.add(name)
        return getattr(self._sessions, name)


class Usage:
    """Sessions used in every way, with canaries in all that is secret."""

    def __init__(self, open_sessions, server, canaries):
        self.canaries = canaries
        self.server = server
        self.clock = MovableClock(server)
        self.used = set()
        self.kept = []
        self.errors = []
        self.reprs = []
        self.key = canaries.plant("sealing key", coatcheck.new_key())
        (key,) = Keyring.parse(self.key).keys
        canaries.plant("sealing key's bytes", key.master)
        canaries.plant("key derived from it", key._subject_key)
        self.subject = canaries.text("subject")
        self.url = server.user("cc", reseals=True, near_cache=True)
        self.password = canaries.plant("store's password", self.url.partition("@")[0].rpartition(":")[2])

        def make(**options):
            options = {"url": self.url, "keys": self.key, "clock": self.clock, "policy": POLICY, **options}
            return Noting(open_sessions(**options), self.used)

        self.make = make
        self.sessions = make()

    def text(self, what="attribute"):
        """Plant a value."""
        return self.canaries.text(what)

    def keep(self, session):
        """Plant the session's identifier and the token of its pages, and hold on to the session."""
        if session.identifier:
            ticket = Ticket.parse(session.identifier)
            self.canaries.plant("identifier's secret", ticket.secret)
            self.canaries.plant("identifier", ticket.identifier[-32:])
            self.canaries.plant("CSRF token", self.sessions.csrf_token(session))
        self.kept.append(session)
        return session

    def refused(self, expected, operate, *arguments, **options):
        """Do what is refused, and keep the exception."""
        with pytest.raises(expected) as caught:
            operate(*arguments, **options)
        self.errors.append(caught.value)

    def create(self):
        """Make a session with something secret in every part of it."""
        session = self.sessions.new()
        session[self.text("attribute's name")] = self.text()
        session.update(device=self.text(), roles=[self.text()], nested={self.text("inner key"): {"x": self.text()}})
        session["many"], session["bytes"] = [self.text()] * 30, self.text().encode()
        session.increment("count", self.canaries.number("counter"))
        cart = session.compartment("cart")
        cart[self.text("compartment's name")] = self.text("compartment")
        session.record(self.text("activity"), product=self.text("activity"))
        self.sessions.save(session)
        return self.keep(session)

    def sign_in(self):
        """Make a session of the subject's."""
        session = self.create()
        session["user_id"] = self.subject
        self.sessions.save(session)
        return self.keep(session)

    def live_near(self, session):
        """Ask for freshness, of the store and of a near cache."""
        self.sessions.require_fresh(session, MINUTE)
        identifier = session.identifier
        near = self.make(policy=replace(POLICY, near_cache=coatcheck.NearCache()))
        wait_until(lambda: near.load(identifier).is_near, "the near cache does not answer")
        near.demand_fresh(self.keep(near.load(identifier)), MINUTE)
        assert near.refresh(self.kept[-1])
        self.kept.append(near.near_cache())

    def live(self):
        """Do all that can be done."""
        sessions, late = self.sessions, self.sessions.create({"a": self.text()})
        self.keep(late)
        for _ in range(4):
            session = self.sign_in()
            loaded = sessions.load(session.identifier)
            loaded["nested"]["y"] = self.text()
            loaded.compartment("cart").increment("price", self.canaries.number("counter"))
            loaded["roles"] = [self.text()]
            sessions.save(loaded)
            self.keep(loaded)
            sessions.rotate(loaded)
            self.keep(loaded)
            assert sessions.is_csrf_token(loaded, sessions.csrf_token(loaded))
        sessions.bind(loaded, self.subject, assurance=2)
        self.keep(loaded)
        self.live_near(loaded)
        assert sessions.is_fresh(loaded, MINUTE)
        assert not sessions.is_rotation_due(loaded)
        self.kept += sessions.activity(loaded, since=datetime(2020, 1, 1, tzinfo=UTC))
        self.kept += sessions.list_for(self.subject)
        assert self.kept[-1].metadata
        found = sessions.find(str(loaded.handle))
        found["seen"] = self.text()
        sessions.save(found)
        self.clock.advance(9 * MINUTE)
        assert sessions.touch(loaded)
        assert sessions.remaining(loaded) > 0
        assert sessions.server().version
        assert len(sessions.time_left([loaded, late])) == len(sessions.subject_digests(self.subject)) * 2
        former = loaded.identifier
        sessions.rotate(loaded)
        self.keep(loaded)
        self.clock.advance(MINUTE)
        assert sessions.load(former) is None  # it ends the session, and says so
        newer = self.make(keys=[self.canaries.plant("sealing key", coatcheck.new_key()), self.key])
        assert newer.reseal().resealed
        sessions.unbind(self.sign_in())
        sessions.revoke(self.sign_in().handle, subject=self.subject, by="support", why="lost phone")
        self.kept += sessions.read_events("audit", "one")
        sessions.acknowledge_events("audit", [self.kept[-1]])
        self.end_others_and_by_the_issuer()
        self.compress()
        sessions.revoke_all(self.subject)
        self.clock.advance(60 * MINUTE)
        sessions.sweep()
        self.sign_in()
        sessions.erase(self.subject)
        self.look_at_the_server()
        self.sign_in()
        sessions.revoke_everyone(by="ops")

    def end_others_and_by_the_issuer(self):
        """End sessions by another one of the subject, and by what an issuer says."""
        sessions, session = self.sessions, self.sign_in()
        self.sign_in()
        assert sessions.revoke_others(session)
        self.keep(session)
        subject, session_id = self.text("issuer's subject"), self.text("issuer's session")
        issued = coatcheck.IssuerSession("https://id.example", subject, session_id, 1)
        linked = self.create()
        linked.issuer_session = issued
        sessions.bind(linked, self.subject)
        self.keep(linked)
        self.kept.append(issued)
        assert sessions.revoke_issued(issued)

    def compress(self):
        """Train a dictionary on what all sessions have in common, and on what each has for itself; use it."""
        sessions, common = self.sessions, self.text("what sessions have in common")
        for number in range(200):
            sessions.create({"common": common * 3, "own": self.text() if number % 20 == 0 else "", "n": number})
        training = sessions.train_dictionary()
        self.kept += [training, training.dictionary, *sessions.dictionaries()]
        session = self.make().create({"common": common * 3})
        assert sessions.load(session.identifier)["common"] == common * 3
        self.keep(session)
        assert not sessions.drop_dictionary(f"{training.dictionary.id:08x}").deleted
        self.refused(ValueError, sessions.drop_dictionary, self.text())

    def look_at_the_server(self):
        """Ask what it is and, as a user who may read that, how it is set up."""
        self.kept.append(self.sessions.server())
        scheme, _, rest = self.url.partition("://")
        checkup = self.make(url=f"{scheme}://{rest.partition('@')[2]}").check_server()
        self.kept += [*checkup, *checkup.seen]
        assert self.sessions.pending_revocations() == 0

    def fail(self):
        """Meet every error."""
        sessions, client = self.sessions, self.server.client
        session = self.sign_in()
        other = sessions.load(session.identifier)
        session.strict, session["device"], other["device"] = True, self.text(), self.text()
        sessions.save(other)
        self.refused(coatcheck.SessionConflict, sessions.save, session)
        self.refused(TypeError, session.increment, "device")
        self.refused(TypeError, session.__setitem__, "object", {"x": [self.text(), object()]})
        self.refused(TypeError, session.__setitem__, "set", {(self.text(), (1, {}.__class__))})
        self.refused(ValueError, session.__setitem__, "large", self.text() * 1000)
        self.refused(ValueError, session.__setitem__, "number", {"x": 10**30 + self.canaries.number("value")})
        self.refused(ValueError, session.__setitem__, "surrogate", self.text() + "\ud800")
        self.refused(ValueError, session.update, {f"a{n}": self.text() for n in range(20)})
        self.refused(ValueError, session.record, self.text("activity"), large=self.text() * 1000)
        self.refused(TypeError, session.record, self.text("activity"), thing=[self.text(), object()])
        self.refused(TypeError, sessions.bind, session, self.canaries.number("subject"))
        self.refused(TypeError, sessions.list_for, self.text("subject").encode())
        self.refused(TypeError, sessions.bind, self.new(user_id=[self.text("subject")]), self.subject)
        self.refused(ValueError, sessions.bind, self.new(), self.subject, assurance=9)
        self.refused(ValueError, sessions.revoke, session, subject=self.text("subject"))
        self.refused(ValueError, sessions.revoke_all, self.subject, keep=session.identifier)
        self.refused(coatcheck.AuthenticationRequired, sessions.require_fresh, session, MINUTE, 3)
        self.refused(coatcheck.ConfigurationError, session.compartment, "other")
        strict = self.make(policy=SessionPolicy(limit=1, at_limit=AtLimit.REFUSE))
        self.refused(coatcheck.SessionLimitReached, strict.bind, self.new(), self.subject)
        ended = sessions.load(session.identifier)
        sessions.revoke(ended.handle)
        ended["late"] = self.text()
        self.refused(coatcheck.SessionRevoked, sessions.save, ended)
        self.corrupt()
        client.script_flush()
        self.exchange()
        self.lose_the_store()

    def new(self, **attributes):
        """Begin a session that is not stored."""
        session = self.sessions.new()
        session.update(secret=self.text(), **attributes)
        return session

    def corrupt(self):
        """Meet records that do not open: damaged, under a lost key."""
        session, damaged = self.sign_in(), self.sign_in()
        stranger = self.make(keys=self.canaries.plant("sealing key", coatcheck.new_key()))
        assert stranger.load(session.identifier) is None
        for part, node in product((":s:", ":c:"), self.server.nodes):
            for name in node.keys(f"*{part}{damaged.handle.name}*"):
                node.setrange(name, 90, b"damaged")
        self.refused(coatcheck.RecordCorrupted, self.sessions.load, damaged.identifier)
        self.refused(coatcheck.RecordCorrupted, self.sessions.load, damaged.identifier)
        self.sessions.list_for(self.subject)
        self.sessions.reseal()

    def exchange(self):
        """Serve requests from changing clients, whose cookies are good, bad, and double; whose tokens are wrong."""
        looking = self.make(policy=replace(POLICY, client=ClientPolicy(), sources=SourcePolicy(creations=9, unknown=1)))
        inner, session = looking._sessions, self.sign_in()
        is_sync = not isinstance(inner, Stepped)
        core, step = (inner.core, run) if is_sync else (inner._sessions, inner._loop.run_until_complete)
        exchange, good = Exchange(core, CookiePolicy()), f"__Host-session={session.identifier}"
        assert looking.recognise(session, user_agent=self.text("user agent"), address=self.address())
        for cookies in (good, good[:-1], f"{good}; __Host-session={self.text()}"):
            origin = {"address": self.address(), "user_agent": f"Mozilla/5.0 {self.text('user agent')}"}
            visit = exchange.begin(cookies, https=True, host="shop.example", **origin)
            loaded = step(exchange.load(visit))
            loaded["visited"] = self.text()
            loaded.rotate()
            for token in (self.text("CSRF token"), None):
                with pytest.raises(coatcheck.CsrfRefused) as refused:
                    step(exchange.check_csrf(visit, token, is_own=False))
                self.errors.append(refused.value)
                self.reprs.append(repr(exchange.failure(refused.value)))
            self.reprs += [repr(visit), repr(step(exchange.finish(visit)))]
            self.keep(loaded)
            loaded["user_id"] = self.text("subject")
            step(exchange.finish_late(visit))
        source = self.address()
        for _ in range(2):
            unknown = f"__Host-session={Ticket.new(Handle.new()).identifier}"
            limited = exchange.begin(unknown, https=True, host="shop.example", address=source)
            with suppress(coatcheck.SourceLimited):
                step(exchange.load(limited))
        self.refused(coatcheck.SourceLimited, lambda: step(exchange.load(limited)))

    def address(self):
        """Plant the part of a client's address that nobody is to see: of its network, a log may tell."""
        interface = ":".join(f"{0x1000 + secrets.randbelow(0xE000):x}" for _ in range(4))
        return f"2001:db8:1:2:{self.canaries.plant('address', interface)}"

    def lose_the_store(self):
        """Meet a store that is not there, that refuses the password, and one that refuses a command."""
        wrong = self.canaries.plant("wrong password", secrets.token_hex(16))
        away = self.make(url=elsewhere(self.url))
        for sessions, expected in (
            (away, coatcheck.StoreUnavailable),
            (self.make(url=self.url.replace(self.password, wrong)), coatcheck.ConfigurationError),
            (self.make(url=self.server.user("other")), coatcheck.ConfigurationError),
        ):
            self.refused(expected, sessions.save, self.new())
            self.refused(expected, sessions.load, self.kept[0].identifier or self.kept[1].identifier)
            self.refused(expected, sessions.bind, self.new(), self.subject)
