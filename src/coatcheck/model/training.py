"""Training of dictionaries: what many sessions have in common, and nothing that only few have.

A dictionary holds pieces of what it was trained on. So that it says nothing about anybody, it is not trained on
sessions: each is cut into the longest pieces that occur, byte for byte, in the sessions of `FEWEST_HOLDERS` holders or
more. What is between them is thrown away; only how often each byte occurs there is kept. The pieces are then dealt out
anew among the sessions, so that it means nothing which of them stand side by side, and Zstandard is trained on that.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from secrets import SystemRandom, randbelow
from time import perf_counter
from typing import Final

import zstandard

from coatcheck.model import compression
from coatcheck.model.compression import Dictionary
from coatcheck.model.errors import NotEnoughSessions
from coatcheck.model.header import DICTIONARY_ID_BYTES
from coatcheck.model.record import SMALLEST_RECORD

FEWEST_HOLDERS: Final = 20
"""What fewer users than this have in common does not get into a dictionary."""
FEWEST_SAMPLES: Final = 200
LARGEST_SAMPLE: Final = 4096
"""Bytes: of a longer payload only the beginning is used. Small ones are what a dictionary is for."""
MOST_BYTES: Final = 1024 * 1024
"""Bytes of payloads that a dictionary is trained on; more take longer and gain nothing that can be measured."""
SIZES: Final = (2048, 4096, 8192, 16_384)

_SHORTEST: Final = 6  # bytes: a shorter piece costs as much as it saves
_LONGEST: Final = 96
_MEASURED: Final = 5  # one in five samples is not trained on, but measured
_NEARLY: Final = 1.02  # a smaller dictionary is as good if payloads are at most 2 % longer
_LOWEST_ID: Final = 1 << 15  # RFC 8878, 5: ids below and from 2^31 on are reserved
_FIRST_RESERVED_ID: Final = 1 << 31

_random: Final = SystemRandom()


@dataclass(frozen=True, slots=True)
class Sample:
    """The payload of a session, before compression. holder: whose it is; all sessions of a holder count as one."""

    holder: str = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Training:
    """A dictionary, and what it does to samples that it was not trained on.

    samples, measured: how many it was trained on, and measured on. plain, before, after: mean bytes of a payload: as it
    is, as it is compressed without this dictionary, and with it. compress_us, decompress_us: microseconds for each.
    """

    dictionary: Dictionary
    samples: int
    measured: int
    plain: float
    before: float
    after: float
    compress_us: float
    decompress_us: float

    @property
    def pays(self) -> bool:
        """Whether records become a tenth shorter, or more, by it."""
        return self.record_after <= 0.9 * self.record_before

    @property
    def record_before(self) -> float:
        """Mean bytes of a whole record of a session without it."""
        return SMALLEST_RECORD + self.before

    @property
    def record_after(self) -> float:
        """Mean bytes of a whole record of a session with it."""
        return SMALLEST_RECORD + DICTIONARY_ID_BYTES + self.after


def train(samples: Sequence[Sample], present: Dictionary | None = None) -> Training:
    """Train a dictionary on most of *samples*, and measure it on the rest. present: what it is to be better than.

    It takes seconds, and some 200 bytes of memory for each of a sample. Of the `SIZES` the smallest is chosen that is
    nearly as good as the best. Raises NotEnoughSessions.
    """
    if len(samples) < FEWEST_SAMPLES:
        raise NotEnoughSessions(f"it takes {FEWEST_SAMPLES} sessions to train a dictionary, and {len(samples)} live")
    mixed = list(samples)
    _random.shuffle(mixed)
    apart = len(mixed) // _MEASURED
    bodies, trained = [sample.body for sample in mixed[:apart]], mixed[apart:]
    texts = anonymous(trained)
    tried = [dictionary for size in SIZES if (dictionary := _train(texts, size)) is not None]
    if not tried:
        raise NotEnoughSessions(
            f"{len(samples)} sessions have too little in common to train a dictionary: what it holds must occur in "
            f"sessions of at least {FEWEST_HOLDERS} users"
        )
    means = [_mean_length(dictionary.compress, bodies) for dictionary in tried]
    chosen = next(i for i, mean in enumerate(means) if mean <= _NEARLY * min(means))
    dictionary = tried[chosen]
    frames = [frame for body in bodies if (frame := dictionary.compress(body)) is not None]
    return Training(
        dictionary=dictionary,
        samples=len(trained),
        measured=len(bodies),
        plain=sum(map(len, bodies)) / len(bodies),
        before=_mean_length(present.compress if present else compression.compress, bodies),
        after=means[chosen],
        compress_us=_microseconds(dictionary.compress, bodies),
        decompress_us=_microseconds(dictionary.decompress, frames),
    )


def anonymous(samples: Sequence[Sample]) -> list[bytes]:
    """Make texts like the payloads of *samples*, of nothing but what enough holders have in common, dealt out anew."""
    cuts = [_cut(sample.body, shared) for sample, shared in zip(samples, _shared_lengths(samples), strict=True)]
    rare = [byte for cut in cuts for piece, is_shared in cut if not is_shared for byte in piece]
    columns: defaultdict[int, list[bytes]] = defaultdict(list)
    for cut in cuts:
        for number, piece in enumerate(piece for piece, is_shared in cut if is_shared):
            columns[number].append(piece)
    _random.shuffle(rare)
    for column in columns.values():
        _random.shuffle(column)
    texts = []
    for cut in cuts:
        text, number = bytearray(), 0
        for piece, is_shared in cut:
            if is_shared:
                text += columns[number].pop()
                number += 1
            else:
                text += bytes(rare.pop() for _ in piece)
        texts.append(bytes(text))
    return texts


def _shared_lengths(samples: Sequence[Sample]) -> list[bytearray]:
    """Say for each byte of each sample how long the piece is that begins there and that enough holders share; else 0.

    All suffixes are sorted. Then whatever a piece begins stands together, and a stretch of the order with the suffixes
    of enough holders shares what its first and its last one share.
    """
    places = [(number, at) for number, sample in enumerate(samples) for at in range(len(sample.body[:LARGEST_SAMPLE]))]
    suffixes = [samples[number].body[at : min(at + _LONGEST, LARGEST_SAMPLE)] for number, at in places]
    order = sorted(range(len(places)), key=suffixes.__getitem__)
    stretches: dict[int, tuple[int, int]] = {}  # where a stretch begins in the order: where it ends, bytes shared
    present: Counter[str] = Counter()
    first = 0
    for last, index in enumerate(order):
        present[samples[places[index][0]].holder] += 1
        while len(present) >= FEWEST_HOLDERS:
            shared = _common_length(suffixes[order[first]], suffixes[index])
            if shared >= _SHORTEST:
                stretches[first] = last, shared
            holder = samples[places[order[first]][0]].holder
            present[holder] -= 1
            if not present[holder]:
                del present[holder]
            first += 1
    lengths = [bytearray(len(sample.body)) for sample in samples]
    around: deque[tuple[int, int]] = deque()  # the stretches that reach this far, the one that shares most first
    for at, index in enumerate(order):
        if at in stretches:
            while around and around[-1][1] <= stretches[at][1]:
                around.pop()
            around.append(stretches[at])
        while around and around[0][0] < at:
            around.popleft()
        if around:
            number, position = places[index]
            lengths[number][position] = around[0][1]
    return lengths


def _common_length(one: bytes, other: bytes) -> int:
    """Give how many bytes the two have in common at their beginning."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[:middle] == other[:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def _cut(body: bytes, shared: bytearray) -> list[tuple[bytes, bool]]:
    """Cut the beginning of a payload into pieces that are shared (True), and what is between them."""
    body, cut, at, begin = body[:LARGEST_SAMPLE], [], 0, 0
    while at < len(body):
        if not shared[at]:
            at += 1
            continue
        if begin < at:
            cut.append((body[begin:at], False))
        cut.append((body[at : at + shared[at]], True))
        at = begin = at + shared[at]
    return [*cut, (body[begin:], False)] if begin < len(body) else cut


def _train(texts: Sequence[bytes], size: int) -> Dictionary | None:
    """Train a dictionary of *size* bytes under a random id; None where *texts* do not give as much."""
    dictionary_id = _LOWEST_ID + randbelow(_FIRST_RESERVED_ID - _LOWEST_ID)
    try:
        trained = zstandard.train_dictionary(size, [*texts], dict_id=dictionary_id, level=compression.DICTIONARY_LEVEL)
    except zstandard.ZstdError:
        return None
    return Dictionary(trained.as_bytes())


def _mean_length(compress: Callable[[bytes], bytes | None], bodies: list[bytes]) -> float:
    return sum(len(compress(body) or body) for body in bodies) / len(bodies)


def _microseconds(work: Callable[[bytes], object], given: Iterable[bytes]) -> float:
    """Measure *work*: the least time of several rounds, since another process may have had the core meanwhile."""
    items = list(given)
    rounds = []
    for _ in range(5):
        begin = perf_counter()
        for item in items:
            work(item)
        rounds.append(perf_counter() - begin)
    return min(rounds) / max(1, len(items)) * 1e6
