"""Deliveries: messages that an owner sends to the gateway of consumers' streams.

Layout of a pack of deliveries, little-endian::

    magic u8 0xD3 | crc32c u32 of all that follows
    epoch u64 | deliveries u32 | runs u32 | messages u32 | failures u32
    per delivery: consumer id u64 | session u64 | number u64 | runs u32
    per run: position of its first message u64 | its offset u64 | index of that message u32
        | messages u32
    per failure: index of its delivery u32 | position u64 | how often its delivery failed u32
    per message: where it ends in the bytes that follow u32
    the messages' bytes back to back

``number`` counts the deliveries of one session from 1 without gaps: a gateway that sees a gap has
lost a message on the bus and asks again. The messages of a run have consecutive positions; the position
of a run of non-reliable messages is 0. Runs of several deliveries may hold the same messages, which are
in the pack once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import google_crc32c

from danube_common.errors import CorruptData
from danube_common.model.run import Run, back_to_back

MAGIC = 0xD3
OLD_MAGIC = 0xD2
"""Of a pack without failures and offsets, as earlier owners send it; a position stands for an offset then."""
MAGICS = frozenset((MAGIC, OLD_MAGIC))
MESSAGES_MAX = 4096
"""Messages in a pack, and runs, and deliveries. A run has at least one message, a delivery one run."""
PACK_BYTES_MAX = 1024 * 1024
"""Bytes of messages in a pack of several deliveries."""

_LEAD = struct.Struct("<BI")
_HEADER = struct.Struct("<QIIII")
_OLD_HEADER = struct.Struct("<QIII")
_DELIVERY = struct.Struct("<QQQI")
_RUN = struct.Struct("<QQII")
_OLD_RUN = struct.Struct("<QII")
_FAILURE = struct.Struct("<IQI")

Failures = Sequence[tuple[int, int]]
"""(position, how often its delivery failed) of the messages of a delivery that failed before."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Messages for one consumer, numbered within its session; the runs are in the order to be sent.

    Attributes:
        failures: which of the messages failed before, and how often.
    """

    epoch: int
    consumer_id: int
    session: int
    number: int
    runs: tuple[Run, ...]
    failures: Failures = ()

    def entries(self) -> list[tuple[int, bytes]]:
        """Return (position, serialized StreamMessage) of each message."""
        return [entry for run in self.runs for entry in run.entries()]


class Pack:
    """Deliveries of one owner that travel together to one gateway."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._deliveries: list[bytes] = []
        self._runs: list[bytes] = []
        self._failures: list[bytes] = []
        self._ends: list[int] = []
        self._size = 0
        self._held: dict[tuple[int, int, int], int] = {}
        """Index of the first message of what is in the pack, by (id of its bytes, low, high)."""
        self._kept: list[Run] = []

    def add(
        self, consumer_id: int, session: int, number: int, runs: list[Run], failures: Failures = ()
    ) -> bool:
        """Add a delivery of one run or more; return False if the pack has no room for it.

        A pack has room for at least one delivery of at most MESSAGES_MAX messages.
        """
        stretches = back_to_back(runs)
        new = [run for run in stretches if (id(run.data), run.low, run.high) not in self._held]
        if self._deliveries and (
            self._size + sum([run.size for run in new]) > PACK_BYTES_MAX
            or len(self._ends) + sum([len(run) for run in new]) > MESSAGES_MAX
            or len(self._runs) + len(runs) > MESSAGES_MAX
        ):
            return False
        for run in new:
            self._hold(run)
        rows, rest = self._runs, iter(runs)
        row = _RUN.pack
        for stretch in stretches:
            high, end = stretch.low, stretch.high
            shift = self._held[id(stretch.data), high, end] - high
            while high < end:
                run = next(rest)
                low, high = run.low, run.high
                rows.append(row(run.first, run.offset, low + shift, high - low))
        index = len(self._deliveries)
        self._failures += [_FAILURE.pack(index, position, count) for position, count in failures]
        self._deliveries.append(_DELIVERY.pack(consumer_id, session, number, len(runs)))
        return True

    def _hold(self, run: Run) -> None:
        self._held[id(run.data), run.low, run.high] = len(self._ends)
        self._kept.append(run)
        ends = run.ends[run.low : run.high]
        shift = self._size - run.start
        self._ends += [end + shift for end in ends] if shift else ends
        self._size += run.size

    def encode(self) -> bytes:
        """Return the pack as bytes."""
        ends, failures = self._ends, self._failures
        head = b"".join(
            (
                _HEADER.pack(self._epoch, len(self._deliveries), len(self._runs), len(ends), len(failures)),
                *self._deliveries,
                *self._runs,
                *failures,
                struct.pack(f"<{len(ends)}I", *ends),
            )
        )
        bodies = [run.body() for run in self._kept]
        crc = google_crc32c.value(head)
        for body in bodies:
            crc = google_crc32c.extend(crc, body)
        return b"".join((_LEAD.pack(MAGIC, crc), head, *bodies))


def encode_delivery(delivery: Delivery) -> bytes:
    """Encode one delivery as a pack."""
    pack = Pack(delivery.epoch)
    pack.add(delivery.consumer_id, delivery.session, delivery.number, list(delivery.runs), delivery.failures)
    return pack.encode()


def decode_deliveries(data: bytes) -> list[Delivery]:
    """Decode a pack and verify its checksum; raises CorruptData."""
    try:
        magic, crc = _LEAD.unpack_from(data)
        header, row = (_OLD_HEADER, _OLD_RUN) if magic == OLD_MAGIC else (_HEADER, _RUN)
        epoch, count, run_count, messages, *rest = header.unpack_from(data, _LEAD.size)
    except struct.error:
        raise CorruptData(f"{len(data)} bytes are too short for a delivery") from None
    failure_count = sum(rest)
    deliveries_start = _LEAD.size + header.size
    runs_start = deliveries_start + _DELIVERY.size * count
    failures_start = runs_start + row.size * run_count
    ends_start = failures_start + _FAILURE.size * failure_count
    body_start = ends_start + 4 * messages
    if magic not in MAGICS:
        known = " and ".join(f"{one:#x}" for one in sorted(MAGICS))
        raise CorruptData(
            f"a pack of deliveries of format {magic:#x}, where {known} are known: upgrade gateways"
        )
    if not count <= run_count <= MESSAGES_MAX or messages > MESSAGES_MAX:
        raise CorruptData("not a delivery")
    if body_start > len(data):
        raise CorruptData("the delivery's tables do not fit its bytes")
    body = data[body_start:]
    if google_crc32c.extend(google_crc32c.value(data[_LEAD.size : body_start]), body) != crc:
        raise CorruptData("the delivery fails its checksum")
    ends = struct.unpack_from(f"<{messages}I", data, ends_start)
    runs: list[Run] = []
    rows: Iterable[tuple[int, ...]] = row.iter_unpack(data[runs_start:failures_start])
    if magic == OLD_MAGIC:
        rows = ((first, first, low, length) for first, low, length in rows)
    for first, offset, low, length in rows:
        if not length or low + length > messages:
            raise CorruptData("the delivery has a run beyond its messages")
        runs.append(Run(first, ends, low, low + length, body, offset))
    failures: dict[int, list[tuple[int, int]]] = {}
    for index, position, failed in _FAILURE.iter_unpack(data[failures_start:ends_start]):
        failures.setdefault(index, []).append((position, failed))
    deliveries: list[Delivery] = []
    at = 0
    for consumer_id, session, number, length in _DELIVERY.iter_unpack(data[deliveries_start:runs_start]):
        part, found = _owned(runs[at : at + length]), failures.get(len(deliveries), ())
        deliveries.append(Delivery(epoch, consumer_id, session, number, part, found))
        at += length
    if at != run_count or len(deliveries) != count or (ends[-1] if ends else 0) != len(body):
        raise CorruptData("the delivery's tables do not fit its bytes")
    return deliveries


def _owned(runs: list[Run]) -> tuple[Run, ...]:
    """Return the runs of a delivery: whoever keeps some of them keeps nothing else of the pack."""
    stretches = [(stretch, stretch.owned()) for stretch in back_to_back(runs)]
    if all(stretch is owned for stretch, owned in stretches):
        return tuple(runs)
    kept: list[Run] = []
    rest = iter(runs)
    for stretch, owned in stretches:
        shift, low = stretch.low - owned.low, stretch.low
        while low < stretch.high:
            run = next(rest)
            low = run.high
            if owned is not stretch:
                run = Run(run.first, owned.ends, run.low - shift, low - shift, owned.data, run.offset)
            kept.append(run)
    return tuple(kept)
