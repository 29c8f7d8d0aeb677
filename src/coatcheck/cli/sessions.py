"""`coatcheck sessions`: the sessions of a subject, listed and ended."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from coatcheck.cli.options import By, KeysFile, Prefix, Url, Why, names_of_keys, open_sessions
from coatcheck.cli.output import complain, printable, sessions_have, show, show_table
from coatcheck.model.ticket import Handle
from coatcheck.runtime.address import prefix_or_default

app = typer.Typer(help="Sessions of a subject.", no_args_is_help=True)

_OPERATOR = "command line"


def _handle(text: str) -> Handle:
    try:
        return Handle.parse(text)
    except ValueError:
        raise typer.BadParameter("a handle looks like a7.ABEiM0RVZneImaq7") from None


SubjectArgument = Annotated[str, typer.Argument(help="Whose sessions: a user's id, as the application binds it.")]
HandleArgument = Annotated[Handle, typer.Argument(parser=_handle, metavar="HANDLE", help="The session.")]


@app.command("list")
def list_sessions(
    subject: SubjectArgument,
    *,
    attribute: Annotated[list[str] | None, typer.Option(help="Show this attribute too; may be repeated.")] = None,
    url: Url = None,
    prefix: Prefix = None,
    keys_file: KeysFile = None,
) -> None:
    """List the live sessions of a subject, those used last first. Times are UTC.

    Where there are none, it says under which prefix and keys it has looked.
    """
    listed = tuple(attribute or ())
    with open_sessions(url, prefix, keys_file, listed=listed) as sessions:
        found = sessions.list_for(subject)
    rows = [
        (
            info.handle,
            *(_time(at) for at in (info.created_at, info.last_seen, info.idle_deadline, info.absolute_deadline)),
            *(info.metadata.get(name, "") for name in listed),
        )
        for info in found
    ]
    show_table(("handle", "created", "last seen", "idle deadline", "absolute deadline", *listed), rows)
    if not found:
        _doubt(subject, url, prefix, keys_file)


@app.command()
def end(
    handle: HandleArgument,
    *,
    by: By = _OPERATOR,
    why: Why = "",
    url: Url = None,
    prefix: Prefix = None,
    keys_file: KeysFile = None,
) -> None:
    """End a session at once. Exit code 1 if there is none."""
    with open_sessions(url, prefix, keys_file) as sessions:
        ended = sessions.revoke(handle, by=by, why=why)
    show(f"{handle} has ended" if ended else f"there is no session {handle}")
    if not ended:
        raise typer.Exit(1)


@app.command("end-all")
def end_all(
    subject: SubjectArgument,
    *,
    keep: Annotated[Handle | None, typer.Option(parser=_handle, metavar="HANDLE", help="All but this one.")] = None,
    by: By = _OPERATOR,
    why: Why = "",
    url: Url = None,
    prefix: Prefix = None,
    keys_file: KeysFile = None,
) -> None:
    """End every session of a subject at once. Where there is none, it says under which prefix and keys it looked."""
    with open_sessions(url, prefix, keys_file) as sessions:
        ended = sessions.revoke_all(subject, keep=keep, by=by, why=why)
        was_found = bool(ended or (keep and sessions.list_for(subject)))
    show(f"{sessions_have(ended)} ended")
    if not was_found:
        _doubt(subject, url, prefix, keys_file)


@app.command()
def erase(
    subject: SubjectArgument,
    *,
    compartment: Annotated[
        list[str] | None, typer.Option(help="A compartment that the application declares; may be repeated.")
    ] = None,
    url: Url = None,
    prefix: Prefix = None,
    keys_file: KeysFile = None,
) -> None:
    """End every session of a subject, and remove all that is kept of it, its events too.

    Where no session ended, it says under which prefix and keys it has looked.
    """
    with open_sessions(url, prefix, keys_file, compartments=tuple(compartment or ())) as sessions:
        ended = sessions.erase(subject)
    if ended:
        show(f"{sessions_have(ended)} ended, and nothing is kept")
        return
    show(f"{sessions_have(ended)} ended")
    _doubt(subject, url, prefix, keys_file)


def _doubt(subject: str, url: str | None, prefix: str | None, keys_file: Path | None) -> None:
    """Say where nothing of *subject* was found: with the wrong settings nothing is found of somebody signed in."""
    complain(
        f"no session of '{printable(subject)}' was found under the prefix {prefix_or_default(prefix)} and the key "
        f"{names_of_keys(url, keys_file)}. With another prefix or other keys than the application's none is ever "
        "found: see COATCHECK_PREFIX and `coatcheck keys list`"
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
