"""`coatcheck keys`: sealing keys are made, listed by their fingerprints, rotated, and records sealed anew."""

from pathlib import Path
from typing import Annotated

import typer

from coatcheck.cli.options import KeysFile, Prefix, Url, open_sessions
from coatcheck.cli.output import show, show_table
from coatcheck.model.keyring import new_key
from coatcheck.runtime.address import Address
from coatcheck.runtime.key_files import add_key, create_key_file, promote_key

app = typer.Typer(help="Sealing keys.", no_args_is_help=True)


@app.command()
def new(
    file: Annotated[Path | None, typer.Argument(help="Make this file with the key, for its owner alone.")] = None,
) -> None:
    """Make a key: print it, or put it into a new file and print its fingerprint only."""
    show(new_key() if file is None else create_key_file(file).fingerprint)


@app.command("list")
def list_keys(*, keys_file: KeysFile = None, url: Url = None) -> None:
    """List the keys of the ring by their fingerprints, the one that seals first, and say where they come from.

    A fingerprint is no secret; its first four digits are the key's id, which records and error messages name.
    """
    keyring, source = Address(url).keyring_and_source(keys_file)
    roles = ("seals and opens", *("opens" for _ in keyring.keys[1:]))
    rows = [(key.fingerprint, role, source) for key, role in zip(keyring.keys, roles, strict=True)]
    show_table(("fingerprint", "use", "from"), rows)


@app.command()
def rotate(
    file: Annotated[Path, typer.Argument(help="The file of sealing keys.")],
    *,
    promote: Annotated[bool, typer.Option("--promote", help="The second step: let the new key seal.")] = False,
) -> None:
    """Rotate the keys of a file in two steps, so that nobody is signed out; processes read the file when they start.

    First a new key is put at the end: every process learns to open with it. When all have restarted, --promote moves
    it to the front, and they seal with it once they have restarted again.
    """
    if promote:
        show(f"{promote_key(file).fingerprint} is first now; restart every process")
    else:
        show(f"{add_key(file).fingerprint} is last now; restart every process, then: keys rotate {file} --promote")


@app.command()
def reseal(
    *,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Keys to look at in a step.")] = 500,
    url: Url = None,
    prefix: Prefix = None,
    keys_file: KeysFile = None,
) -> None:
    """Seal with the first key what other keys have sealed. Exit code 1 if some of it is left: run it again."""
    with open_sessions(url, prefix, keys_file) as sessions:
        found = sessions.reseal(batch=batch)
    left = f"{found.changed} changed meanwhile, {found.unreadable} unreadable"
    show(f"{found.seen} seen, {found.resealed} resealed, {left}")
    if found.changed or found.unreadable:
        raise typer.Exit(1)
