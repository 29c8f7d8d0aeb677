"""What every session of the load holds: 338 bytes of plain JSON."""

import json
from typing import Any, Final

SESSION: Final[dict[str, Any]] = {
    "user_id": 48213,
    "name": "Ada Lovelace",
    "email": "ada.lovelace@example.org",
    "locale": "en-GB",
    "currency": "GBP",
    "cart": [
        {"sku": "BK-30418", "title": "Notes on the Analytical Engine", "n": 1, "price": 1850},
        {"sku": "PN-00172", "title": "Pen blue", "n": 3, "price": 240},
    ],
    "seen": ["BK-30418", "BK-11020", "PN-00172"],
    "flags": {"beta": False, "news": True},
    "hits": 0,
}

PLAIN_BYTES: Final = len(json.dumps(SESSION, separators=(",", ":")))
