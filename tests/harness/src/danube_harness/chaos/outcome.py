"""What came of a run: the longest silences after each fault, each reconciliation, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from danube_client import SubscriptionType
from danube_harness.chaos.archived import Archived
from danube_harness.chaos.plan import Strike
from danube_harness.traffic.clients import Reader, Subscription, Writer, longest_gap_s
from danube_harness.traffic.history import Receipt, Report, ranges

SHOWN_MAX = 8
"""Messages that a problem names."""
NATS_ENDS = ("kill", "tear the logs of")


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that happened.

    Attributes:
        at: when it began, monotonic.
        healed: when what it hurt served again; None: it did not in time.
    """

    strike: Strike
    at: float
    healed: float | None


@dataclass(frozen=True, slots=True)
class Unavailability:
    """The longest unavailability from a fault's begin to the first that began after it was healed.

    Attributes:
        struck: the fault.
        publishing_s: the longest time in which some writer got no answer, and whose it was.
        delivery_s: the longest time in which some subscription got nothing new, and whose it was.
    """

    struck: Struck
    publishing_s: float
    writer: str
    delivery_s: float
    subscription: str


@dataclass(slots=True)
class Outcome:
    """One run.

    Attributes:
        seed: that chose the faults.
        duration_s: for which they were planned.
        struck: the faults in their order.
        writers: all of them.
        subscriptions: all of them.
        began: monotonic, as are `healed` (the writers had their last answers) and `ended`.
        archived: what was in segments in the end.
        not_whole: segments that lack an intact copy in the end.
        unsettled: by subscription of failing readers, what is neither acknowledged nor a dead letter.
        left_out: what this machine did not allow to prove, in capitals.
        launcher: what the supervisor told.
    """

    seed: int
    duration_s: float
    struck: list[Struck] = field(default_factory=list)
    writers: list[Writer] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    began: float = 0.0
    healed: float = 0.0
    ended: float = 0.0
    archived: Archived = field(default_factory=Archived)
    not_whole: list[str] = field(default_factory=list)
    unsettled: dict[str, list[Receipt]] = field(default_factory=dict)
    left_out: str = ""
    launcher: list[str] = field(default_factory=list)

    @property
    def reports(self) -> list[tuple[Subscription, Report]]:
        """Each subscription's reconciliation."""
        return [(one, one.report(self.writers)) for one in self.subscriptions]

    @property
    def silences(self) -> list[Unavailability]:
        """The longest unavailability after each fault."""
        found = []
        for struck in self.struck:
            healed = struck.at if struck.healed is None else struck.healed
            until = min((one.at for one in self.struck if one.at > healed), default=self.ended)
            # Writers are idle once the faults are over, readers once they have caught up.
            publishing = [
                (longest_gap_s(one.acknowledged_at, struck.at, min(until, self.began + self.duration_s)), one)
                for one in self.writers
            ]
            delivery = [
                (longest_gap_s(one.progressed_at, struck.at, min(until, one.progressed_at[-1])), one)
                for one in self.subscriptions
                if one.progressed_at and one.progressed_at[0] < struck.at
            ]
            writer = max(publishing, key=lambda pair: pair[0])
            reading = max(delivery, key=lambda pair: pair[0], default=None)
            found.append(
                Unavailability(
                    struck,
                    *(writer[0], writer[1].name),
                    *((reading[0], reading[1].name) if reading else (0.0, "")),
                )
            )
        return found

    @property
    def errors(self) -> Counter[str]:
        """What writers and readers were told that their retries did not overcome."""
        found: Counter[str] = Counter()
        for one in self.writers:
            found.update({f"{one.name}: {text}": count for text, count in one.errors.items()})
        for subscription in self.subscriptions:
            for reader in subscription.readers:
                found.update({f"{subscription.name}: {text}": count for text, count in reader.errors.items()})
        return found

    def problems(self) -> list[str]:
        """Every broken guarantee, in a sentence each."""
        found = [
            f"{one.strike.target} did not serve again after: {one.strike}"
            for one in self.struck
            if one.healed is None
        ]
        nats_ended = any(one.strike.fault in NATS_ENDS and one.strike.target == "nats" for one in self.struck)
        for one, report in self.reports:
            if report.lost and (one.topic.survives_nats or not nats_ended):
                found.append(f"{one.name} lost {report.lost} acknowledged messages")
            if report.unexpected:
                found.append(f"{one.name} received {len(report.unexpected)} messages that nobody sent")
            if report.reordered and one.ordered:
                found.append(f"{one.name} received {sum(report.reordered.values())} out of order")
            if twice := sorted(one.stored_twice):
                found.append(f"{one.name} has {len(twice)} messages twice in the log: {twice[:SHOWN_MAX]}")
            if misplaced := one.misplaced:
                found.append(f"{one.name}: {len(misplaced)} out of order in the log: {misplaced[:SHOWN_MAX]}")
            keyed = one.reading.type is SubscriptionType.KEY_SHARED
            if keyed and (late := one.answers.disordered):
                found.append(f"{one.name}: {len(late)} after a later one of their key: {late[:SHOWN_MAX]}")
            if forgotten := one.answers.forgotten:
                found.append(f"{one.name}: failures of {len(forgotten)} forgotten: {forgotten[:SHOWN_MAX]}")
        found += [
            f"{name}: {len(those)} neither acknowledged nor dead letters: {those[:SHOWN_MAX]}"
            for name, those in self.unsettled.items()
            if those
        ]
        found += [f"segment {segment}" for segment in self.not_whole]
        return found + self._disagreements()

    def disorders(self) -> list[str]:
        """Where and when readers that get an order got something after what was sent later, repeats aside."""
        found = []
        for one in self.subscriptions:
            for reader in one.readers:
                if one.reading.type in (SubscriptionType.EXCLUSIVE, SubscriptionType.FAILOVER):
                    found += [f"{one.name}: {line}" for line in self._disorder_of(reader)]
        return found

    def _disorder_of(self, reader: Reader) -> list[str]:
        times = Counter(reader.received)
        highest: dict[str, int] = {}
        late: dict[tuple[str, int], list[tuple[int, float]]] = {}
        for (writer, number), at in zip(reader.received, reader.received_at, strict=True):
            if number > highest.get(writer, 0):
                highest[writer] = number
            elif times[writer, number] == 1:
                late.setdefault((writer, highest[writer]), []).append((number, at - self.began))
        return [
            f"{writer} {ranges(number for number, _ in those)} after {after} at {those[0][1]:.1f} s"
            for (writer, after), those in late.items()
        ]

    def _disagreements(self) -> list[str]:
        """Readers that are alone see the messages of a topic in one order, repeats aside."""
        found = []
        orders: dict[str, tuple[Subscription, Sequence[Receipt]]] = {}
        for one in self.subscriptions:
            if one.reading.type is not SubscriptionType.EXCLUSIVE:
                continue
            order = list(dict.fromkeys(one.readers[0].received))
            other, known = orders.setdefault(one.topic.name, (one, order))
            both = set(order) & set(known)
            pairs = zip(
                (receipt for receipt in known if receipt in both),
                (receipt for receipt in order if receipt in both),
                strict=True,
            )
            for first, second in pairs:
                if first != second:
                    found.append(f"{one.name} has {second} where {other.name} has {first}")
                    break
        return found
