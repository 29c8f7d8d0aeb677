"""Options that several commands have, and what they open."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from coatcheck.model.keyring import Keyring, new_key
from coatcheck.model.policy import SessionPolicy
from coatcheck.runtime.address import Address, environment_keyring, prefix_or_default
from coatcheck.runtime.sync import Sessions

Url = Annotated[str | None, typer.Option(help="The store; by default COATCHECK_URL, or the embedded one.")]
Prefix = Annotated[str | None, typer.Option(help="What keys begin with; by default COATCHECK_PREFIX, or cc.")]
KeysFile = Annotated[
    Path | None, typer.Option(help="The file of sealing keys; by default COATCHECK_KEYS or COATCHECK_KEYS_FILE.")
]
By = Annotated[str, typer.Option(help="Who does it, for the event.")]
Why = Annotated[str, typer.Option(help="Why, for the event.")]


def open_sessions(
    url: str | None,
    prefix: str | None,
    keys_file: Path | None = None,
    *,
    listed: tuple[str, ...] = (),
    compartments: tuple[str, ...] = (),
    any_key: bool = False,
) -> Sessions:
    """Open the sessions that the options mean. Raises ConfigurationError.

    any_key: for what opens and seals nothing. It has no outbox: what that keeps is for who has the application's keys.
    """
    keys = Keyring.parse(new_key()) if any_key else keys_file
    policy = SessionPolicy(listed=listed)
    declared = dict.fromkeys(compartments, policy.idle_timeout)
    policy = replace(policy, compartments=declared)
    return Sessions(url, keys=keys, prefix=prefix_or_default(prefix), policy=policy, outbox=False if any_key else None)


def names_of_keys(url: str | None, keys_file: Path | None) -> str:
    """Give the fingerprints of the keys that the options mean. Raises ConfigurationError."""
    return " or ".join(key.fingerprint for key in Address(url).keyring(keys_file).keys)


def has_keys(url: str | None) -> bool:
    """Say whether the settings give keys, or the store has its own. Raises ConfigurationError for what is no key."""
    return environment_keyring() is not None or Address(url).is_embedded
