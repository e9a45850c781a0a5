"""Checks what readers received against what writers sent.

A writer numbers its messages, ascending in the order it sent them. A subscription's readers share its
messages, so loss, repeats and strangers are judged over all of them together, order for each reader and
writer alone. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

RANGES_SHOWN_MAX = 8

Receipt = tuple[str, int]
"""(writer, number), as a reader found it in a message."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A writer's acknowledged messages that no reader received, each ascending.

    Attributes:
        prefix: before the first that was received: the subscription began too late.
        middle: between received ones: a hole.
        postfix: after the last that was received, or all when none was: it ended too early.
    """

    prefix: Sequence[int] = ()
    middle: Sequence[int] = ()
    postfix: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.postfix)


@dataclass(frozen=True, slots=True)
class WriterReport:
    """What became of one writer's messages.

    Attributes:
        sent: handed to the platform.
        acknowledged: of those, the platform said it has them: they must be received.
        received: different messages received.
        lost: acknowledged and not received.
        duplicated: receipts of a message beyond its first.
        recovered: received though never acknowledged; allowed, the answer may have been lost.
        missing: neither acknowledged nor received; allowed.
    """

    sent: int
    acknowledged: int
    received: int
    lost: Lost
    duplicated: int
    recovered: int
    missing: int


@dataclass(frozen=True, slots=True)
class Report:
    """One subscription's reconciliation.

    Attributes:
        writers: by name.
        unexpected: messages received that nobody sent, with the number of their receipts.
        reordered: by (reader, writer): messages received once in all, after a later one of their writer.
        repeats_out_of_order: by (reader, writer): the same for messages that were received several times,
            which a redelivery explains.
    """

    writers: Mapping[str, WriterReport]
    unexpected: Mapping[Receipt, int]
    reordered: Mapping[tuple[str, str], int]
    repeats_out_of_order: Mapping[tuple[str, str], int]

    @property
    def sent(self) -> int:
        """Messages handed to the platform."""
        return sum(writer.sent for writer in self.writers.values())

    @property
    def received(self) -> int:
        """Different messages received of those that were sent."""
        return sum(writer.received for writer in self.writers.values())

    @property
    def lost(self) -> int:
        """Acknowledged messages that no reader received."""
        return sum(len(writer.lost) for writer in self.writers.values())

    @property
    def duplicated(self) -> int:
        """Receipts of messages beyond their first."""
        return sum(writer.duplicated for writer in self.writers.values())

    @property
    def ok(self) -> bool:
        """Nothing acknowledged was lost and nothing received was made up."""
        return self.lost == 0 and not self.unexpected

    def text(self) -> str:
        """The report in lines: counts first, then each writer and reader that something happened to."""
        lines = [
            (
                f"sent {self.sent}, received {self.received}, lost {self.lost}, "
                f"duplicated {self.duplicated}, reordered {sum(self.reordered.values())} "
                f"(and {sum(self.repeats_out_of_order.values())} repeats out of order), "
                f"unexpected {len(self.unexpected)}, "
                f"recovered {sum(writer.recovered for writer in self.writers.values())}"
            )
        ]
        for name, writer in sorted(self.writers.items()):
            parts = (
                ("prefix", writer.lost.prefix),
                ("middle", writer.lost.middle),
                ("postfix", writer.lost.postfix),
            )
            lines += [
                f"  {name}: lost {len(numbers)} ({part}): {ranges(numbers)}"
                for part, numbers in parts
                if numbers
            ]
        for receipt, count in sorted(self.unexpected.items())[:RANGES_SHOWN_MAX]:
            lines.append(f"  unexpected: {receipt[0]} {receipt[1]}, {count} times")
        for (reader, writer_name), count in sorted(self.reordered.items()):
            lines.append(f"  {reader}: {count} of {writer_name} out of order")
        return "\n".join(lines)


def check(
    sent: Mapping[str, Iterable[int]],
    received: Mapping[str, Iterable[Receipt]],
    acknowledged: Mapping[str, AbstractSet[int]] | None = None,
) -> Report:
    """Reconcile one subscription.

    Args:
        sent: by writer, the numbers it sent.
        received: by reader, what it received, in its order.
        acknowledged: by writer, which of the sent were acknowledged; None: all of them.
    """
    all_sent = {writer: frozenset(numbers) for writer, numbers in sent.items()}
    streams = {reader: list(receipts) for reader, receipts in received.items()}
    counts = Counter(receipt for receipts in streams.values() for receipt in receipts)
    expected = {(writer, number) for writer, numbers in all_sent.items() for number in numbers}
    by_writer: dict[str, dict[int, int]] = {writer: {} for writer in all_sent}
    for (writer, number), count in counts.items():
        if (writer, number) in expected:
            by_writer[writer][number] = count
    inverted = _inverted(streams, expected)
    return Report(
        writers={
            writer: _of_writer(
                numbers,
                numbers if acknowledged is None else numbers & acknowledged.get(writer, frozenset()),
                by_writer[writer],
            )
            for writer, numbers in all_sent.items()
        },
        unexpected={receipt: count for receipt, count in counts.items() if receipt not in expected},
        reordered=_count(inverted, counts, repeats=False),
        repeats_out_of_order=_count(inverted, counts, repeats=True),
    )


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as ``3-5, 9``, cut after RANGES_SHOWN_MAX ranges."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in found[:RANGES_SHOWN_MAX]]
    return ", ".join(shown) + (", ..." if len(found) > RANGES_SHOWN_MAX else "")


def _of_writer(sent: frozenset[int], acknowledged: frozenset[int], counts: Mapping[int, int]) -> WriterReport:
    lost = sorted(acknowledged - counts.keys())
    if counts:
        first, last = min(counts), max(counts)
        split = Lost(
            [number for number in lost if number < first],
            [number for number in lost if first < number < last],
            [number for number in lost if number > last],
        )
    else:
        split = Lost(postfix=lost)
    recovered = counts.keys() - acknowledged
    return WriterReport(
        sent=len(sent),
        acknowledged=len(acknowledged),
        received=len(counts),
        lost=split,
        duplicated=sum(counts.values()) - len(counts),
        recovered=len(recovered),
        missing=len(sent) - len(acknowledged) - len(recovered),
    )


def _inverted(
    streams: Mapping[str, Sequence[Receipt]], expected: AbstractSet[Receipt]
) -> dict[tuple[str, str], list[Receipt]]:
    """The receipts that came after a later one of their writer, by reader and writer."""
    found: dict[tuple[str, str], list[Receipt]] = {}
    for reader, receipts in streams.items():
        highest: dict[str, int] = {}
        for receipt in receipts:
            if receipt not in expected:
                continue
            writer, number = receipt
            if number < highest.get(writer, number):
                found.setdefault((reader, writer), []).append(receipt)
            else:
                highest[writer] = number
    return found


def _count(
    inverted: Mapping[tuple[str, str], Sequence[Receipt]], counts: Mapping[Receipt, int], *, repeats: bool
) -> dict[tuple[str, str], int]:
    found = {
        pair: sum((counts[receipt] > 1) is repeats for receipt in receipts)
        for pair, receipts in inverted.items()
    }
    return {pair: count for pair, count in found.items() if count}
