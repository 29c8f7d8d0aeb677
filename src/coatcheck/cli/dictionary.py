"""`coatcheck dictionary`: dictionaries for compression are trained on live sessions, listed and dropped."""

from typing import Annotated

import typer

from coatcheck.cli.options import KeysFile, Prefix, Url, open_sessions
from coatcheck.cli.output import show, show_table

app = typer.Typer(help="Dictionaries, by which records become shorter.", no_args_is_help=True)

Batch = Annotated[int, typer.Option(min=1, max=10_000, help="Keys to look at in a step.")]


@app.command()
def train(
    *,
    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Sessions to train on, at most.")] = 10_000,
    batch: Batch = 500,
    url: Url = None,
    prefix: Prefix = None,
    keys_file: KeysFile = None,
) -> None:
    """Train a dictionary on live sessions and put it to use, if records become a tenth shorter. Else: exit code 1.

    Before the first one every process must run a version that knows dictionaries. What the dictionary holds occurs in
    sessions of at least 20 users; it is stored sealed.
    """
    with open_sessions(url, prefix, keys_file) as sessions:
        done = sessions.train_dictionary(samples=samples, batch=batch)
    found = done.dictionary
    show(f"{len(found.content)} bytes, trained on {done.samples} sessions, measured on {done.measured} others")
    saved = round(100 * (1 - done.record_after / done.record_before))
    change = f"{-saved}% more" if saved < 0 else f"{saved}% less"
    show(f"a record: {done.record_before:.0f} bytes before, {done.record_after:.0f} with it ({change})")
    show(f"to compress: {done.compress_us:.1f} us, to decompress: {done.decompress_us:.1f} us")
    if not done.pays:
        show("not stored: it saves less than a tenth")
        raise typer.Exit(1)
    show(f"{found.id:08x} is in use; every process compresses with it within 5 minutes")


@app.command("list")
def list_dictionaries(*, url: Url = None, prefix: Prefix = None, keys_file: KeysFile = None) -> None:
    """List the dictionaries, the one that was put to use last first. Times are UTC; what is needed is kept longer."""
    with open_sessions(url, prefix, keys_file) as sessions:
        found = sessions.dictionaries()
    rows = [
        (
            one.id,
            "compresses and opens" if one.in_use else "opens" if one.bytes else "is gone",
            f"{one.since:%Y-%m-%d %H:%M:%S}",
            one.bytes,
            f"{one.left.days} days",
        )
        for one in found
    ]
    show_table(("id", "use", "since", "bytes", "kept for"), rows)


@app.command()
def drop(
    name: Annotated[str, typer.Argument(metavar="ID", help="The dictionary.")],
    *,
    batch: Batch = 500,
    url: Url = None,
    prefix: Prefix = None,
    keys_file: KeysFile = None,
) -> None:
    """Compress with a dictionary no more, and delete it if no record needs it. Exit code 1 if it is still there.

    It need not be dropped: it goes by itself soon after the last session that it could be needed for.
    """
    with open_sessions(url, prefix, keys_file) as sessions:
        try:
            dropped = sessions.drop_dictionary(name, batch=batch)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="ID") from None
    if dropped is None:
        show(f"there is no dictionary {name}")
        raise typer.Exit(1)
    if dropped.deleted:
        show(f"{name} is deleted")
        return
    if dropped.records:
        need = "1 record needs" if dropped.records == 1 else f"{dropped.records} records need"
        show(f"{need} {name}; nothing is compressed with it any more, so it goes after them")
    else:
        minutes = -(-dropped.wait.total_seconds() // 60)
        show(f"nothing is compressed with {name} from now on; run this again in {minutes:.0f} minutes to delete it")
    raise typer.Exit(1)
