"""coatcheck keeps web sessions in Redis and Valkey.

Hand your state in at the counter and carry a small ticket; any attendant, on any server, fetches your coat:

    import coatcheck

    with coatcheck.Sessions("embedded://") as sessions:       # or redis://..., valkey://...
        session = sessions.create({"cart": ["book"]})         # session.identifier is the cookie's value
        same = sessions.load(session.identifier)              # on any server, in any process
        same["cart"].append("pen")
        sessions.bind(same, "ada")                            # sign in: a new identifier, ada's session
        sessions.revoke_all("ada")                            # sign out everywhere

Web applications use an adapter instead: coatcheck.django, .flask, .starlette, .fastapi, .litestar, .aiohttp.
"""

from coatcheck.engine.checkup import Finding, Severity
from coatcheck.model import profiles
from coatcheck.model.activity import Activity
from coatcheck.model.client import Client, ClientPolicy, OnChange
from coatcheck.model.compartment import Compartment
from coatcheck.model.cookie import CookiePolicy, SameSite
from coatcheck.model.csrf import CsrfPolicy
from coatcheck.model.durability import Durability, Level, Reached
from coatcheck.model.errors import (
    AuthenticationRequired,
    ConfigurationError,
    CsrfRefused,
    DurabilityNotReached,
    IssuerUnavailable,
    LogoutTokenInvalid,
    NotEnoughSessions,
    RecordCorrupted,
    RevocationPending,
    SessionConflict,
    SessionError,
    SessionLimitReached,
    SessionRevoked,
    SourceLimited,
    StoreError,
    StoreUnavailable,
)
from coatcheck.model.events import Event, EventType
from coatcheck.model.issued import IssuerSession
from coatcheck.model.keyring import Keyring, new_key
from coatcheck.model.near import NearCache, NearCounts
from coatcheck.model.outage import OutagePolicy
from coatcheck.model.policy import AtLimit, SessionPolicy
from coatcheck.model.session import Session, SessionInfo, Status
from coatcheck.model.sources import SourcePolicy
from coatcheck.model.ticket import Handle
from coatcheck.runtime.aio import AsyncSessions
from coatcheck.runtime.sync import Sessions

__all__ = [
    "Activity",
    "AsyncSessions",
    "AtLimit",
    "AuthenticationRequired",
    "Client",
    "ClientPolicy",
    "Compartment",
    "ConfigurationError",
    "CookiePolicy",
    "CsrfPolicy",
    "CsrfRefused",
    "Durability",
    "DurabilityNotReached",
    "Event",
    "EventType",
    "Finding",
    "Handle",
    "IssuerSession",
    "IssuerUnavailable",
    "Keyring",
    "Level",
    "LogoutTokenInvalid",
    "NearCache",
    "NearCounts",
    "NotEnoughSessions",
    "OnChange",
    "OutagePolicy",
    "Reached",
    "RecordCorrupted",
    "RevocationPending",
    "SameSite",
    "Session",
    "SessionConflict",
    "SessionError",
    "SessionInfo",
    "SessionLimitReached",
    "SessionPolicy",
    "SessionRevoked",
    "Sessions",
    "Severity",
    "SourceLimited",
    "SourcePolicy",
    "Status",
    "StoreError",
    "StoreUnavailable",
    "new_key",
    "profiles",
]
