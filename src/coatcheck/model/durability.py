"""How durable a write must be before it counts as done: in memory, on replicas, on disk."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from coatcheck.model.errors import ConfigurationError

_SHORTEST = timedelta(milliseconds=1)


class Level(Enum):
    """Where a write is when the store says that it is done."""

    MEMORY = "memory"
    """In the primary's memory (D0). What a failing primary has not passed on yet is lost."""
    REPLICAS = "replicas"
    """Also in the memory of the policy's number of replicas (D1: WAIT)."""
    DISK = "disk"
    """Also in the primary's append-only file (D2: WAITAOF 1 0). It survives a restart, and no failover; a loss of power
    only with `appendfsync always`, since servers are known to say so before they have synced (docs/reliability.md)."""
    DISK_AND_REPLICAS = "disk and replicas"
    """In those of the primary and of that number of replicas (D3: WAITAOF 1 n), with the same reservation."""

    @property
    def needs_disk(self) -> bool:
        """Whether the primary must have synced it."""
        return self in {Level.DISK, Level.DISK_AND_REPLICAS}

    @property
    def needs_replicas(self) -> bool:
        """Whether replicas must have it."""
        return self in {Level.REPLICAS, Level.DISK_AND_REPLICAS}


class Write(Enum):
    """The kinds of writes that a level can be asked for, by the name of the field of `Durability`."""

    SAVE = "save"
    SIGN_IN = "sign_in"
    ROTATION = "rotation"
    REVOCATION = "revocation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Durability:
    """What each kind of write waits for. To extend an idle deadline never waits.

    save: of attributes, compartments and activity, also the first of a new session. sign_in: bind, and what it ends.
    rotation: a save that gives a new secret. revocation: every end that was asked for, sign-outs too.
    replicas: how many must have it where a level asks for replicas. Where an acknowledged write is to survive any
        failover this is all of them: any one that lacks it may be promoted.
    timeout: how long to wait at most. It must fit in the transport's deadline, with room for the rest; None: as long
        as that leaves.
    strict: a write that falls short raises DurabilityNotReached. False: it is logged, and `Session.durability` says so.
    """

    save: Level = Level.MEMORY
    sign_in: Level = Level.MEMORY
    rotation: Level = Level.MEMORY
    revocation: Level = Level.MEMORY
    replicas: int = 1
    timeout: timedelta | None = None
    strict: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for write in Write:
            if not isinstance(self.level_of(write), Level):
                raise ConfigurationError(f"{write.value} is a Level, not {self.level_of(write)!r}")
        if type(self.replicas) is not int or self.replicas < 1:
            raise ConfigurationError(f"replicas is how many must have a write, at least 1, not {self.replicas!r}")
        timeout: object = self.timeout
        if timeout is not None and not (isinstance(timeout, timedelta) and timeout >= _SHORTEST):
            raise ConfigurationError(f"timeout is a timedelta of at least 1 ms, or None, not {self.timeout!r}")

    def level_of(self, write: Write) -> Level:
        """Give the level that *write* must reach."""
        level: Level = getattr(self, write.value)
        return level


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a write had got when its reply came.

    wanted: the level it was to reach. replicas: how many have confirmed it (on disk, where wanted says so). is_on_disk:
    whether the primary has synced it; False where that was not asked. level: what it has reached, at least.
    """

    wanted: Level
    level: Level
    replicas: int = 0
    is_on_disk: bool = False

    @classmethod
    def judge(cls, wanted: Level, needed: int, replicas: int, *, is_on_disk: bool) -> "Reached":
        """Compare what was confirmed with *wanted*, which asks for *needed* replicas."""
        has_replicas = wanted.needs_replicas and replicas >= needed
        if has_replicas:
            level = Level.DISK_AND_REPLICAS if is_on_disk else Level.REPLICAS
        else:
            level = Level.DISK if is_on_disk else Level.MEMORY
        return cls(wanted, level, replicas, is_on_disk)

    @property
    def is_short(self) -> bool:
        """Whether it fell short of what was wanted."""
        lacks_disk = self.wanted.needs_disk and not self.level.needs_disk
        return lacks_disk or (self.wanted.needs_replicas and not self.level.needs_replicas)
