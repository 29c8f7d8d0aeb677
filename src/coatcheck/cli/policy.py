"""`coatcheck policy`: the effective policy, and where it departs from NIST SP 800-63B-4."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from coatcheck.cli.output import show
from coatcheck.model import profiles
from coatcheck.model.policy import SessionPolicy

_PROFILES = {name.lower(): value for name, value in vars(profiles).items() if isinstance(value, SessionPolicy)}


def _report(name: str, level: int) -> profiles.Report:
    """Find what *name* names, and measure it. Raises BadParameter."""
    module, separator, attribute = name.partition(":")
    found: object = _PROFILES.get(name.lower())
    if separator:
        sys.path.insert(0, str(Path.cwd()))
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise typer.BadParameter(str(error)) from error
    if isinstance(found, profiles.Report):
        return found
    if isinstance(found, SessionPolicy):
        return profiles.report(found, level)
    raise typer.BadParameter(f"{name} is no policy: name MODULE:ATTRIBUTE, or one of {', '.join(_PROFILES)}")


def policy(
    name: Annotated[str, typer.Argument(help="A ready policy (aal1, aal2, aal3, shop, bank), or MODULE:ATTRIBUTE.")],
    *,
    level: Annotated[int, typer.Option(min=1, max=3, help="The assurance level to measure it against.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False,
) -> None:
    """Print the effective policy, and where and why it departs from NIST's advice.

    ATTRIBUTE is a SessionPolicy, or what `profiles.report` has made of one, with the reasons. Exit code 1 if it
    departs from the advice somewhere and no reason is given.
    """
    found = _report(name, level)
    show(json.dumps(found.as_dict(), indent=2) if as_json else str(found).rstrip("\n"))
    if any(deviation.reason is None for deviation in found.deviations):
        raise typer.Exit(1)
