"""A PostgreSQL server, for the contenders that keep sessions in a database."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench.field.stage import free_port, until

NAME: Final = "load"
"""Of the user and of the database."""

_ACCOUNT: Final = "postgres"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Database:
    """A PostgreSQL server with its own defaults, on a unix socket, on the core *core*."""

    def __init__(self, folder: Path, core: str) -> None:
        """Name its folder; start nothing."""
        self.folder = folder
        self._core = core
        self._port = free_port()
        self._pid = 0

    @property
    def address(self) -> str:
        """Where clients find it: folder of the socket and port."""
        return f"{self.folder}:{self._port}"

    @property
    def version(self) -> str:
        """Name it with its version."""
        said = subprocess.run([_program("postgres"), "--version"], capture_output=True, text=True, check=True)
        return "PostgreSQL " + said.stdout.split()[2]

    @property
    def cpu(self) -> float:
        """Seconds of CPU that its processes have used."""
        if not self._pid:
            return 0.0
        used = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(") ")[2].split()
            except OSError:  # it has ended
                continue
            if self._pid in {int(fields[1]), int(stat.parent.name)}:
                used += sum(map(int, fields[11:15]))  # with those of its children that have ended
        return used / _TICKS

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Database"]:
        """Run it."""
        data = self.folder / "data"
        if os.geteuid() == 0:  # which it refuses to run as
            shutil.chown(self.folder, _ACCOUNT)
            self.folder.chmod(0o755)
        self._do("initdb", "--auth", "trust", "--username", NAME, "--encoding", "UTF8", "--pgdata", data)
        program = (_program("postgres"), "-D", data, "-k", self.folder, "-p", str(self._port), "-h", "")
        process = await asyncio.create_subprocess_exec(
            "taskset",
            "-c",
            self._core,
            *_as_account(),
            *program,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await until(self._answers)
            self._pid = int((data / "postmaster.pid").read_text().split()[0])
            yield self
        finally:
            process.terminate()
            await process.wait()

    async def _answers(self) -> bool:
        command = ("psql", "-h", str(self.folder), "-p", str(self._port), "-U", NAME, "-d", "postgres", "-c")
        quiet = asyncio.subprocess.DEVNULL
        made = await asyncio.create_subprocess_exec(*command, f"CREATE DATABASE {NAME}", stdout=quiet, stderr=quiet)
        return await made.wait() == 0

    @staticmethod
    def _do(name: str, *arguments: str | Path) -> None:
        done = subprocess.run([*_as_account(), _program(name), *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stdout}\n{done.stderr}")


def _as_account() -> tuple[str, ...]:
    return ("runuser", "-u", _ACCOUNT, "--") if os.geteuid() == 0 else ()


def _program(name: str) -> str:
    """Find a program of PostgreSQL, which Debian does not put on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if found:
        return str(found[-1])
    if there := shutil.which(name):
        return there
    sys.exit("PostgreSQL is not installed: apt-get install postgresql")
