"""`coatcheck up`: a topology of real servers on this machine, and its failures."""

import json
import signal
import time
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from coatcheck.cli.output import show, show_table
from coatcheck.runtime.local.control import Control, ask, find_running, running
from coatcheck.runtime.local.settings import Kind, TopologySettings
from coatcheck.runtime.local.status import NodeStatus, Role
from coatcheck.runtime.local.topology import LocalTopology

_LOOK_SECONDS: Final = 0.25
_COLUMNS: Final = ("name", "role", "address", "pid", "state", "follows", "link", "offset", "lag", "slots")


def up(
    what: Annotated[
        str | None,
        typer.Argument(help="single, sentinel or cluster; of a running one its kind or folder, if there are several."),
    ] = None,
    *,
    status: Annotated[bool, typer.Option("--status", help="Show what every node is at the moment.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --status: for programs.")] = False,
    kill: Annotated[str | None, typer.Option(metavar="NODE", help="Kill it (SIGKILL).")] = None,
    pause: Annotated[str | None, typer.Option(metavar="NODE", help="Freeze it (SIGSTOP).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Let what is paused go on (SIGCONT).")] = False,
    start: Annotated[str | None, typer.Option(metavar="NODE", help="Start a killed one again, with its data.")] = None,
    failover: Annotated[bool, typer.Option("--failover", help="Hand the primary's role over, in order.")] = False,
    server: Annotated[
        str | None, typer.Option(help="The server program; by default that of coatcheck[embedded].")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The first port; by default free ones are found.")] = None,
) -> None:
    """Run a topology of real servers here until Ctrl-C; or, with an option, look at the one that runs, or let it fail.

    single is one server, sentinel a primary with two replicas and three sentinels, cluster three primaries with a
    replica each. NODE is a name that --status shows, or primary, replica or sentinel: the first of that role.
    Everything is in a temporary folder, and gone when the command ends. See docs/topologies.md.
    """
    wishes = {"status": status, "kill": kill, "pause": pause, "resume": resume, "start": start, "failover": failover}
    actions = [(name, wish) for name, wish in wishes.items() if wish]
    if len(actions) > 1:
        raise typer.BadParameter(f"one at a time: --{actions[0][0]} or --{actions[1][0]}")
    if not actions:
        if what is None:
            raise typer.BadParameter(f"say what to start: {', '.join(Kind)}")
        _run(LocalTopology(what, TopologySettings(server=server, port=port)))
        return
    action, wish = actions[0]
    answer = ask(find_running(what), action, wish if isinstance(wish, str) else "")
    if not status:
        show(answer["text"])
    elif as_json:
        show(json.dumps(answer["status"], indent=2))
    else:
        rows = [["" if line[column] is None else line[column] for column in _COLUMNS] for line in answer["status"]]
        show_table(_COLUMNS, rows)


def _run(topology: LocalTopology) -> None:
    """Run it until Ctrl-C or SIGTERM, and tell what happens."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        begin = time.monotonic()
        with topology:
            _introduce(topology, time.monotonic() - begin)
            _watch(topology)
    except KeyboardInterrupt:
        show("stopped; nothing is left")
    finally:
        signal.signal(signal.SIGTERM, former)


def _introduce(topology: LocalTopology, seconds: float) -> None:
    primary = topology.primary()
    show(f"{topology.kind} runs after {seconds:.1f} s in {topology.folder}; let your application use it with")
    show("")
    show(f"  export COATCHECK_URL={topology.url}")
    show("  export COATCHECK_KEYS=$(coatcheck keys new)    # unless it has keys already")
    show("")
    show("and then, in another terminal:")
    show("")
    for words, remark in _examples(topology, primary):
        show(f"  {words}  {remark}")
    show("")
    show("Ctrl-C stops it and removes its data.")


def _examples(topology: LocalTopology, primary: str) -> Iterator[tuple[str, str]]:
    """Give commands, of one width, and what is to be said of each. They name this topology, however many run."""
    others = [folder for folder in running(topology.kind) if folder != topology.folder]
    this = f"coatcheck up {topology.folder if others else topology.kind}"
    examples = {
        "--status": "what every node is",
        "--kill primary": f"then: {this} --start {primary}",
        "--pause primary": f"then: {this} --resume",
    }
    if topology.kind is not Kind.SINGLE:
        examples["--failover"] = "a planned one"
    width = max(map(len, examples))
    for words, remark in examples.items():
        yield f"{this} {words.ljust(width)}", remark


def _watch(topology: LocalTopology) -> None:
    control = Control(topology)
    try:
        roles: dict[str, Role] = {}
        while True:
            done = control.serve(_LOOK_SECONDS)
            for line in (*((done,) if done else ()), *_news(topology.status(), roles)):
                show(f"{time.strftime('%H:%M:%S')}  {line}")
    finally:
        control.close()


def _news(found: list[NodeStatus], roles: dict[str, Role]) -> Iterator[str]:
    """Tell which nodes have another role than in *roles*, and note it there."""
    for status in found:
        if status.role is not None:
            if roles.get(status.name, status.role) is not status.role:
                yield f"{status.name} is now a {status.role}"
            roles[status.name] = status.role
