"""What the three applications have in common: a policy, a little shop, the page. It knows no framework.

All of them answer the same requests:

    GET  /                          the page; its files are under /page/
    GET  /api/state                 what the page shows
    POST /api/sign-in               {"user": "Ada"}
    POST /api/sign-out              {}
    POST /api/sign-out-everywhere   {}
    POST /api/cart                  {"item": "scarf", "by": 1}
    POST /api/rotate                {}
    POST /api/devices/end           {"handle": "a7.Qm9v..."}
    POST /api/devices/end-others    {}

Against forged requests from other sites (CSRF): the cookie is SameSite=Lax, so that a POST from another site
comes without it, and every POST must have a JSON body declared as such, which no HTML form can send.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from coatcheck import CookiePolicy, Session, SessionInfo, SessionPolicy

POLICY: Final = SessionPolicy(
    idle_timeout=timedelta(minutes=5),  # short, so that there is something to watch
    absolute_timeout=timedelta(hours=1),
    rotation_grace=timedelta(seconds=3),
    subject_attribute="user",  # whoever session["user"] names is signed in
    listed=("device",),  # list_for shows it beside each session
    limit=5,
)

# development: the page is served by plain http on this machine. The name keeps out of the way of other
# applications there, for browsers send a cookie to every port of a host.
COOKIE: Final = CookiePolicy(name="coatcheck-demo", development=True)

USERS: Final = ("Ada", "Grace")
ITEMS: Final = {
    "umbrella": ("Umbrella", Decimal("19.00")),
    "scarf": ("Scarf", Decimal("24.50")),
    "gloves": ("Gloves", Decimal("15.00")),
    "hat": ("Hat", Decimal("32.00")),
}
MOST: Final = 99

PAGE: Final = {path.name: path.read_bytes() for path in Path(__file__).with_name("page").iterdir() if path.is_file()}
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

_AGENTS: Final = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrom", "Chrome"), ("Safari", "Safari"))
_SYSTEMS: Final = (
    *(("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android")),
    *(("Windows", "Windows"), ("Mac OS", "macOS"), ("Linux", "Linux")),
)


class Refused(Exception):
    """The request asks for something that the shop does not have."""


# What a request does to the session


def sign_in(session: MutableMapping[str, Any], wish: Mapping[str, Any], user_agent: str) -> None:
    """Sign a user in, with one click instead of a password.

    Setting the policy's subject_attribute is all there is to it: when the session is saved it gets a new
    identifier, joins the user's devices, and the limit is kept.
    """
    user = wish.get("user")
    if user not in USERS:
        raise Refused("There is nobody of that name; try Ada or Grace.")
    if session.get("user") not in {None, user}:
        session.clear()  # somebody else's cart stays with somebody else
    session["user"] = user
    session["device"] = device_name(user_agent)
    session["signed_in_at"] = datetime.now(UTC).replace(microsecond=0)


def add_to_cart(session: Session, wish: Mapping[str, Any]) -> None:
    """Put one more, or one less, of an item into the cart. Increments that happen at the same time all count."""
    item, by = wish.get("item"), wish.get("by")
    if item not in ITEMS or by not in {1, -1}:
        raise Refused("The shop does not have that.")
    count = session.get(f"cart.{item}", 0) + by
    if count > MOST:
        raise Refused(f"{MOST} of one thing is all you can carry.")
    if count > 0:
        session.increment(f"cart.{item}", by)
    else:
        session.pop(f"cart.{item}", None)


def signed_by(session: MutableMapping[str, Any], framework: str) -> None:
    """Note in the session, as a Python set, which frameworks have written to it."""
    if framework not in session.get("written_by", ()):
        session["written_by"] = {*session.get("written_by", ()), framework}


# What an answer says


def answer(framework: str) -> dict[str, Any]:
    """Say who answers."""
    return {"server": {"framework": framework, "pid": os.getpid()}}


def state(framework: str, session: Session, devices: Iterable[SessionInfo]) -> dict[str, Any]:
    """Say everything that the page shows."""
    cart = [
        {"item": item, "name": name, "price": str(price), "count": session.get(f"cart.{item}", 0)}
        for item, (name, price) in ITEMS.items()
    ]
    return {
        **answer(framework),
        "now": _instant(datetime.now(UTC)),
        "users": USERS,
        "user": session.get("user"),
        "cart": cart,
        "total": str(sum(Decimal(line["price"]) * line["count"] for line in cart)),
        "session": None if session.is_new else describe(session),
        "devices": [
            {
                "handle": str(info.handle),
                "device": info.metadata.get("device", "unknown"),
                "last_seen": _instant(info.last_seen),
                "idle_deadline": _instant(info.idle_deadline),
                "is_this": info.handle == session.handle,
            }
            for info in devices
        ],
    }


def describe(session: Session) -> dict[str, Any]:
    """Describe a stored session. Its handle is public; of its identifier only a fingerprint is shown."""
    return {
        "handle": str(session.handle),
        "fingerprint": hashlib.sha256((session.identifier or "").encode()).hexdigest()[:8],
        "idle_timeout": session.idle_timeout.total_seconds(),
        "idle_deadline": _instant(session.idle_deadline),
        "absolute_timeout": session.absolute_timeout.total_seconds(),
        "absolute_deadline": _instant(session.absolute_deadline),
        "attributes": [
            {"name": name, "type": type(value).__name__, "value": _shown(value)}
            for name, value in sorted(session.items())
        ],
    }


def device_name(user_agent: str) -> str:
    """Give a name to the browser that sends *user_agent*: "Firefox on Linux"."""
    agent = next((name for sign, name in _AGENTS if sign in user_agent), "A program")
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "this machine")
    return f"{agent} on {system}"


def page(name: str) -> tuple[bytes, dict[str, str]]:
    """Give a file of the page and its headers. Raises KeyError if there is none of that name."""
    return PAGE[name], {
        "Content-Type": TYPES[Path(name).suffix],
        "Cache-Control": "no-cache",
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return ", ".join(sorted(map(str, value))) if isinstance(value, set) else str(value)
