"""Every name of a key in the store.

    <prefix>:{<tag>}:s:<handle>     string      a record
    <prefix>:{<tag>}:c:<handle>:<name>  string  a compartment of that session
    <prefix>:{<tag>}:a:<handle>     stream      what was done in that session, sealed
    <prefix>:{<tag>}:u:<digest>     sorted set  handles of one subject, by absolute deadline (ms)
    <prefix>:{<tag>}:o:<digest>     sorted set  handles linked to one session, or one subject, of an issuer, and marks
    <prefix>:{<tag>}:x              sorted set  bound sessions (handle and digest), by when to look at them (ms)
    <prefix>:{<tag>}:g              string      epoch: sessions of the partition created by then (ms) have ended
    <prefix>:{<tag>}:w              string      a mark, for a second: what a durable write waits behind
    <prefix>:{<tag>}:e              stream      lifecycle events; also the name of the channel that tells them
    <prefix>:{<tag>}:d:<id>         string      a dictionary, sealed; all of them in the first partition
    <prefix>:{<tag>}:d              sorted set  dictionaries by when they were put to use (ms); the last is in use

The tag is the partition's: all the keys of one operation lie in one Cluster slot.
"""

import re
from typing import Final

from coatcheck.model.errors import ConfigurationError
from coatcheck.model.keyring import Place
from coatcheck.model.partition import TAGS
from coatcheck.model.ticket import Handle

_PREFIX_SHAPE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}", re.ASCII)


class Keys:
    """The key names of one prefix."""

    __slots__ = ("_epochs", "_events", "_expiry", "_stems", "_subjects", "prefix")

    def __init__(self, prefix: str) -> None:
        """Serve *prefix*. Raises ConfigurationError for one that could be mistaken in a key's name."""
        if not _PREFIX_SHAPE.fullmatch(prefix):
            raise ConfigurationError(f"a prefix is 1 to 64 of the characters A-Z a-z 0-9 _ . : / -, not {prefix!r}")
        self.prefix = prefix
        self._stems = [f"{prefix}:{{{tag}}}:s:" for tag in TAGS]
        self._subjects = [f"{prefix}:{{{tag}}}:u:" for tag in TAGS]
        self._expiry = [f"{prefix}:{{{tag}}}:x" for tag in TAGS]
        self._epochs = [f"{prefix}:{{{tag}}}:g" for tag in TAGS]
        self._events = [f"{prefix}:{{{tag}}}:e" for tag in TAGS]

    def record(self, handle: Handle) -> str:
        """Name the record of *handle*."""
        return self._stems[handle.partition] + handle.name

    def compartment(self, handle: Handle, name: str) -> str:
        """Name the compartment *name* of *handle*."""
        return f"{self._stems[handle.partition][:-2]}c:{handle.name}:{name}"

    def activity(self, handle: Handle) -> str:
        """Name the stream of what was done in the session *handle*."""
        return f"{self._stems[handle.partition][:-2]}a:{handle.name}"

    def stem(self, partition: int) -> str:
        """Give what the names of the records of *partition* begin with; the handle's name follows."""
        return self._stems[partition]

    def subject(self, place: Place) -> str:
        """Name the index of the subject at *place*."""
        return self._subjects[place.partition] + place.digest

    def issued(self, place: Place) -> str:
        """Name the index of an issuer's session, or of its subject, at *place*."""
        return f"{self._stems[place.partition][:-2]}o:{place.digest}"

    def expiry(self, partition: int) -> str:
        """Name the expiry index of *partition*."""
        return self._expiry[partition]

    def epoch(self, partition: int) -> str:
        """Name the epoch of *partition*."""
        return self._epochs[partition]

    def events(self, partition: int) -> str:
        """Name the stream of lifecycle events of *partition*, and their channel."""
        return self._events[partition]

    def mark(self, partition: int) -> str:
        """Name the mark that is written behind durable writes to *partition*."""
        return f"{self._stems[partition][:-2]}w"

    @property
    def dictionaries(self) -> str:
        """Name the list of the dictionaries."""
        return f"{self._stems[0][:-2]}d"

    def dictionary(self, dictionary_id: int) -> str:
        """Name the dictionary of that id."""
        return f"{self.dictionaries}:{dictionary_id:08x}"

    @property
    def all_records(self) -> str:
        """Give the pattern (SCAN) of the records of all partitions, sessions' and compartments'."""
        return f"{self.prefix}:{{*}}:[sc]:*"

    @property
    def all_events(self) -> str:
        """Give the pattern (PSUBSCRIBE) of the channels of all partitions."""
        return f"{self.prefix}:{{*}}:e"

    @property
    def all_keys(self) -> str:
        """Give what the names of all keys begin with."""
        return f"{self.prefix}:{{"

    @property
    def quiet_channel(self) -> str:
        """Name a channel on which nothing is ever told, among those that `all_events` covers."""
        return f"{self.prefix}:{{}}:e"
