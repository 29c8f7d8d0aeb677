"""What the commands print: a table for people, lines with tabs for programs."""

from collections.abc import Iterable, Sequence
from typing import Final

import typer
from rich.console import Console
from rich.table import Table

_WIDEST: Final = 1000  # a terminal breaks lines itself; a table would break handles, which are to be copied


def show(line: str) -> None:
    """Print a line."""
    typer.echo(line)


def complain(line: str) -> None:
    """Print a line for people on the standard error, which no program reads as the result."""
    typer.echo(f"coatcheck: {line}", err=True)


def sessions_have(count: int) -> str:
    """Say "1 session has", "2 sessions have"."""
    return "1 session has" if count == 1 else f"{count} sessions have"


def show_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print *rows*: with *titles* on a terminal, else one a line with tabs between."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    terminal = Console(width=_WIDEST, highlight=False, markup=False, emoji=False)
    if not terminal.is_terminal:
        for row in cells:
            typer.echo("\t".join(row))
        return
    table = Table(*titles, box=None, pad_edge=False)
    for row in cells:
        table.add_row(*row)
    terminal.print(table)


def printable(text: str) -> str:
    r"""Write what could control a terminal, or end a cell, as escapes: what users sent may be in it."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
