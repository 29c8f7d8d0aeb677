"""`coatcheck check`: whether the servers are set up for sessions."""

import json
from typing import Annotated

import typer

from coatcheck.cli.options import Url, open_sessions
from coatcheck.cli.output import show, show_table
from coatcheck.engine.checkup import Severity


def check(
    *,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False,
) -> None:
    """Look at how the servers are set up: eviction, persistence, replicas, sentinels, known flaws.

    It needs a user who may run INFO and CONFIG GET; what could not be looked at is listed too. Exit code 1 if something
    is wrong enough to lose sessions (error), or could not be looked at (unknown).
    """
    with open_sessions(url, None, any_key=True) as sessions:
        findings = sessions.check_server()
    if as_json:
        lines = [
            {"severity": found.severity.value, "code": found.code, "where": found.where, "text": found.text}
            for found in findings
        ]
        show(json.dumps(lines, indent=2))
    elif findings:
        show_table(
            ("severity", "code", "where", "what to do"),
            [(found.severity.value, found.code, found.where, found.text) for found in findings],
        )
    else:
        show("nothing is wrong with what was looked at:")
        for seen in findings.seen:
            show(str(seen))
    if any(found.severity is not Severity.WARNING for found in findings):
        raise typer.Exit(1)
