"""The command `coatcheck`: keys, dictionaries, access rules, sweeping, sessions (docs/operations.md), topologies."""

import sys

from coatcheck.model.extras import installation


def main() -> None:
    """Run the command line and exit: 0 done, 1 there was nothing to do it to, 2 wrong settings, 3 no store."""
    try:
        from coatcheck.cli.app import run  # noqa: PLC0415  it needs the extra
    except ModuleNotFoundError as missing:
        if missing.name not in {"typer", "rich"}:
            raise
        sys.exit(f"the command line needs the extra cli: {installation('cli')}")
    sys.exit(run())
