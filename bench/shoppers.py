"""Sessions of the shape that the load has, of different people: what a dictionary meets in a shop.

Names of attributes, the spelling of values and the products on sale are what they share; who it is, which of the 500
products lie in the cart, and all numbers differ. Every product is as likely as any other, which is harder on a
dictionary than a shop where a few are bought by most.
"""

import json
from random import Random  # noqa: TID251  it guards nothing, and each run is to have the same sessions
from typing import Any, Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FIRST_NAMES: Final = _words("""
    Ada Alan Barbara Charles Dorothy Edsger Frances Grace Hedy Ivan Jean Katherine Leslie Margaret Niklaus
    Olga Peter Radia Sophie Tim Ursula Vint Whitfield Xiaoyun Yukihiro Zhenyi Amara Bjarne Chiara Dmitri Elena
    Fatima
""")
_LAST_NAMES: Final = _words("""
    Lovelace Turing Liskov Babbage Vaughan Dijkstra Allen Hopper Lamarr Sutherland Bartik Johnson Lamport
    Hamilton Wirth Ladyzhenskaya Naur Perlman Wilson Lee Franklin Cerf Diffie Wang Matsumoto Chen Okafor
    Stroustrup Rossi Ivanov Kowalska Haddad Murphy Garcia Silva Nguyen Tanaka Andersson Muller Papadopoulos
""")
_HOSTS: Final = ("example.org", "example.com", "example.net", "example.se")
_PLACES: Final = (("en-GB", "GBP"), ("de-DE", "EUR"), ("fr-FR", "EUR"), ("pl-PL", "PLN"), ("sv-SE", "SEK"))
_KINDS: Final = (
    ("BK", "Notes on the", "Engine"),
    ("PN", "Pen", "fine"),
    ("PA", "Paper", "lined"),
    ("IK", "Ink", ""),
)
_TRAITS: Final = _words("""
    Analytical Blue Botanical Cold Crimson Difference Eastern Electric Folding Golden Green Hidden Indigo Jade
    Kindred Lunar Marble Northern Ochre Pale
""")
_random: Final = Random(1815)  # noqa: S311  as above


def _product() -> dict[str, Any]:
    kind, before, after = _random.choice(_KINDS)
    title = " ".join((before, *_random.sample(_TRAITS, _random.choice((1, 1, 1, 2))), after)).strip()
    return {"sku": f"{kind}-{_random.randrange(100_000):05}", "title": title, "price": 10 * _random.randrange(20, 400)}


PRODUCTS: Final = tuple(_product() for _ in range(500))


def shopper(number: int) -> dict[str, Any]:
    """Give what the session of that person holds: always the same, some 340 bytes of plain JSON."""
    random = Random(number)  # noqa: S311  as above
    first, last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
    locale, currency = random.choice(_PLACES)
    bought, seen = random.sample(PRODUCTS, 2), random.sample(PRODUCTS, 3)
    return {
        "user_id": random.randrange(10_000, 100_000),
        "name": f"{first} {last}",
        "email": f"{first[0]}.{last}{random.randrange(100)}@{random.choice(_HOSTS)}".lower(),
        "locale": locale,
        "currency": currency,
        "cart": [
            {"sku": one["sku"], "title": one["title"], "n": random.randrange(1, 5), "price": one["price"]}
            for one in bought
        ],
        "seen": [one["sku"] for one in seen],
        "flags": {"beta": random.random() < 0.1, "news": random.random() < 0.5},  # noqa: PLR2004
        "hits": random.randrange(1000),
    }


def plain_json(attributes: dict[str, Any]) -> bytes:
    """Give what they are as plain JSON, as short as it gets."""
    return json.dumps(attributes, separators=(",", ":")).encode()
