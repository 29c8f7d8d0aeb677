"""The commands, put together; what they raise becomes a line on the standard error, and an exit code."""

import os
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from coatcheck.cli import dictionary, keys, sessions
from coatcheck.cli.check import check
from coatcheck.cli.options import Prefix, Url, has_keys, open_sessions
from coatcheck.cli.output import complain, sessions_have, show
from coatcheck.cli.policy import policy
from coatcheck.cli.up import up
from coatcheck.engine.access import access_rules
from coatcheck.model.durability import Durability, Level
from coatcheck.model.errors import ConfigurationError, RevocationPending, SessionError, StoreError
from coatcheck.runtime.address import prefix_or_default

app = typer.Typer(
    help="Look after web sessions. Settings come from COATCHECK_URL, COATCHECK_PREFIX and COATCHECK_KEYS or "
    "COATCHECK_KEYS_FILE, as in the application. Exit codes: 0 done, 1 there was nothing to do it to, "
    "2 wrong settings or usage, 3 the store failed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(is_wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if is_wanted:
        show(f"coatcheck {metadata.version('coatcheck')}")
        raise typer.Exit


app.add_typer(dictionary.app, name="dictionary")
app.add_typer(keys.app, name="keys")
app.add_typer(sessions.app, name="sessions")
app.command()(check)
app.command()(policy)
app.command()(up)


@app.callback()
def _settle_version(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that no command has."""


def run() -> int:
    """Carry out the command that the process was started with; give the exit code, or exit with it."""
    try:
        app()
    except RevocationPending as pending:
        complain(_unconfirmed(pending))
        return 3
    except SessionError as error:
        complain(str(error))
        return 2 if isinstance(error, ConfigurationError) else 3 if isinstance(error, StoreError) else 1
    return 0


def _unconfirmed(pending: RevocationPending) -> str:
    """Say what became of an end: this process, which would go on with it, is over."""
    text = f"NOT confirmed, so count on nothing: {str(pending.__cause__).removesuffix('.')}. "
    if pending.is_kept:
        return (
            f"{text}It is kept in {os.environ.get('COATCHECK_OUTBOX')}: `coatcheck sweep`, or a process that starts, "
            "with this outbox and the same keys carries it out. To be sure of it sooner, run the command again when "
            "the store answers"
        )
    return f"{text}Nobody goes on with it: run the command again when the store answers"


@app.command()
def acl(
    *,
    user: Annotated[str, typer.Option(help="The name of the user.")] = "coatcheck",
    prefix: Prefix = None,
    reseal: Annotated[
        bool, typer.Option("--reseal", help="Allow `keys reseal` and `dictionary`: SCAN shows all keys' names.")
    ] = False,
    database: Annotated[bool, typer.Option("--database", help="Allow SELECT: the URL ends in a number.")] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Allow what a cluster:// address needs.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Allow WAIT: writes wait for replicas.")] = False,
    waitaof: Annotated[
        bool, typer.Option("--waitaof", help="Allow WAITAOF (Redis 7.2): writes wait for disks.")
    ] = False,
    near_cache: Annotated[bool, typer.Option("--near-cache", help="Allow what a NearCache needs.")] = False,
    aclfile: Annotated[bool, typer.Option("--aclfile", help="Print a line for the server's ACL file.")] = False,
) -> None:
    """Print the least that the application's user of the store must be allowed: one prefix, no more commands than used.

    The user gets no password by it, so that nobody can be that user until you set one. Works on Redis 7 and Valkey 9:
    coatcheck acl | redis-cli
    """
    if not user.isprintable() or not user or set(user) & set(" \"'\\"):
        raise typer.BadParameter("a name without spaces, quotes and backslashes", param_hint="--user")
    durability = Durability(
        save=Level.REPLICAS if wait else Level.MEMORY, sign_in=Level.DISK if waitaof else Level.MEMORY
    )
    rules = access_rules(
        prefix_or_default(prefix),
        reseals=reseal,
        numbered=database,
        clustered=cluster,
        durability=durability,
        near_cache=near_cache,
    )
    show(" ".join((*(("user", user) if aclfile else ("ACL", "SETUSER", user, "reset")), "on", *rules)))


@app.command()
def sweep(*, url: Url = None, prefix: Prefix = None) -> None:
    """Settle the sessions that have expired, so that users' lists are short and every end is told. Run it from cron.

    It needs no key. With COATCHECK_OUTBOX and the application's keys it carries out the ends, too, that are kept there.
    """
    outbox = os.environ.get("COATCHECK_OUTBOX")
    is_keyed = bool(outbox) and has_keys(url)
    with open_sessions(url, prefix, any_key=not is_keyed) as opened:
        kept = opened.pending_revocations()
        show(f"{sessions_have(opened.sweep())} ended")
        if kept:
            show(f"{kept - opened.pending_revocations()} of {kept} ends that {outbox} has kept are carried out")
    if outbox and not is_keyed and _holds_something(Path(outbox)):
        complain(
            f"{outbox} is left as it is: what it keeps can be carried out with the application's keys only, so set "
            "COATCHECK_KEYS or COATCHECK_KEYS_FILE too, or sweep from within the application"
        )


def _holds_something(file: Path) -> bool:
    """Say whether the outbox *file* is not empty, as far as this user may see."""
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
