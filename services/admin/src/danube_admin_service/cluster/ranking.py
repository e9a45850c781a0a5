"""Compares the loads of owners, by strategy. Pure: load reports in, numbers between 0 and about 1 out.

``fair``
    The owner's share of all topics (of all bundles, while there are no topics).
``balanced``
    0.3 topic load + 0.35 CPU + 0.35 memory, where topic load is 0.2 topics + 0.3 throughput + 0.3 consumers
    + 0.2 backlog, each as a share of the cluster's.
``weighted_load``
    Topic load, CPU and memory weigh the same, until CPU or memory is used above 70 %: then the fullest of
    the two weighs one half and the others one quarter each.

CPU is a part of one core, which is what one owner can use; memory a part of what its machine has. An owner's
CPU time goes with its bundles in proportion to their throughput; its memory stays with the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from danube_common.cluster.load import BundleLoad, LoadReport
from danube_common.errors import InvalidInput
from danube_common.model.bundle import Bundle

MESSAGE_BYTES: Final = 1024
"""The fixed cost of a message in bytes, in addition to its payload."""
BEHIND_MESSAGES: Final = 1000
"""What a subscription that reads below the log's end counts in backlog, as unacknowledged messages."""
HIGH_USE: Final = 0.7
"""With ``weighted_load``, a resource used above this part weighs more than the others."""
TIE_RATIO: Final = 1.1
"""Owners within 10 % of the lightest count as equally light: the one with the fewest bundles is taken."""


class LoadStrategy(StrEnum):
    """What counts as load."""

    FAIR = "fair"
    BALANCED = "balanced"
    WEIGHTED_LOAD = "weighted_load"


@dataclass(frozen=True, slots=True)
class Weight:
    """The load that a bundle brings or an owner carries. Weights can be added and multiplied part by part."""

    topics: float = 0.0
    throughput: float = 0.0
    consumers: float = 0.0
    backlog: float = 0.0
    cpu: float = 0.0
    bundles: int = 0

    def __add__(self, other: Weight) -> Weight:
        return self._combined(other, 1)

    def __sub__(self, other: Weight) -> Weight:
        return self._combined(other, -1)

    def _combined(self, other: Weight, sign: int) -> Weight:
        return Weight(
            self.topics + sign * other.topics,
            self.throughput + sign * other.throughput,
            self.consumers + sign * other.consumers,
            self.backlog + sign * other.backlog,
            self.cpu + sign * other.cpu,
            self.bundles + sign * other.bundles,
        )


class LoadModel:
    """The load of each owner, on which moves of bundles can be tried out.

    Args:
        strategy: how loads are compared.
        owners: the owners that may have bundles; others are not part of the model.
        reports: by instance id, also those of owners that are gone: their bundles keep their weight.
        held: the owner of each bundle at the start; bundles of unknown owners count for no owner.
    """

    def __init__(
        self,
        strategy: LoadStrategy,
        owners: Iterable[str],
        reports: Mapping[str, LoadReport],
        held: Mapping[Bundle, str],
    ) -> None:
        self._strategy = strategy
        self._weights = weights_of(reports.values())
        self._total = sum((self.weight(bundle) for bundle in held), start=Weight())
        self._carried: dict[str, Weight] = {}
        self._memory: dict[str, float] = {}
        for owner in sorted(owners):
            report = reports.get(owner)
            carried = sum(
                (w for bundle, w in self._weights.items() if report and str(bundle) in report.bundles),
                start=Weight(),
            )
            # CPU time that no bundle causes stays with the process.
            idle = max((report.cpu_percent if report else 0.0) / 100 - carried.cpu, 0.0)
            self._carried[owner] = Weight(cpu=idle)
            self._memory[owner] = min((report.memory_percent if report else 0.0) / 100, 1.0)
        for bundle, owner in held.items():
            if owner in self._carried:
                self.add(bundle, owner)

    def weight(self, bundle: Bundle) -> Weight:
        """Return the weight of a bundle; one without a report weighs only itself."""
        return self._weights.get(bundle, Weight(bundles=1))

    def add(self, bundle: Bundle, owner: str) -> None:
        """Give a bundle to an owner."""
        self._carried[owner] += self.weight(bundle)

    def move(self, bundle: Bundle, source: str, target: str) -> None:
        """Move a bundle to another owner."""
        self._carried[source] -= self.weight(bundle)
        self._carried[target] += self.weight(bundle)

    def bundles(self, owner: str) -> int:
        """Return the bundles of an owner."""
        return self._carried[owner].bundles

    def score(self, owner: str) -> float:
        """Return an owner's load, comparable within this model only."""
        return self._score(self._carried[owner], self._memory[owner])

    def score_with(self, owner: str, *, more: Weight = Weight(), less: Weight = Weight()) -> float:
        """Return the load that the owner would have with some weight more and some less."""
        return self._score(self._carried[owner] + more - less, self._memory[owner])

    def share(self, bundle: Bundle) -> float:
        """Return the load that the bundle would be for an owner that carries nothing else."""
        return self._score(self.weight(bundle), 0.0)

    def lightest(self, owners: Iterable[str]) -> str:
        """Return the least loaded of ``owners``, which must not be empty."""
        scores = {owner: self.score(owner) for owner in owners}
        enough = min(scores.values()) * TIE_RATIO
        ties = [owner for owner, score in scores.items() if score <= enough]
        return min(ties, key=lambda owner: (self.bundles(owner), scores[owner], owner))

    def _score(self, carried: Weight, memory: float) -> float:
        total = self._total
        if self._strategy is LoadStrategy.FAIR:
            if total.topics:
                return carried.topics / total.topics
            return carried.bundles / max(total.bundles, 1)
        topic_load = (
            0.2 * _part(carried.topics, total.topics)
            + 0.3 * _part(carried.throughput, total.throughput)
            + 0.3 * _part(carried.consumers, total.consumers)
            + 0.2 * _part(carried.backlog, total.backlog)
        )
        cpu = min(carried.cpu, 1.0)
        if self._strategy is LoadStrategy.BALANCED:
            return 0.3 * topic_load + 0.35 * cpu + 0.35 * memory
        if max(cpu, memory) <= HIGH_USE:
            return (topic_load + cpu + memory) / 3
        return 0.25 * (topic_load + cpu + memory) + 0.25 * max(cpu, memory)


def weights_of(reports: Iterable[LoadReport]) -> dict[Bundle, Weight]:
    """Return weights by bundle from load reports; of two reports on a bundle the later counts."""
    found: dict[Bundle, Weight] = {}
    for report in sorted(reports, key=lambda report: (report.at_ms, report.instance_id)):
        throughput = sum(throughput_of(load) for load in report.bundles.values())
        for name, load in report.bundles.items():
            try:
                bundle = Bundle.parse(name)
            except InvalidInput:
                continue
            found[bundle] = Weight(
                topics=load.topics,
                throughput=throughput_of(load),
                consumers=load.consumers,
                backlog=load.unacked + BEHIND_MESSAGES * load.behind,
                cpu=report.cpu_percent / 100 * _part(throughput_of(load), throughput),
                bundles=1,
            )
    return found


def throughput_of(load: BundleLoad) -> float:
    """Return bytes per second in both directions, with a fixed cost for each message."""
    messages = load.in_messages_per_s + load.out_messages_per_s
    return load.in_bytes_per_s + load.out_bytes_per_s + MESSAGE_BYTES * messages


def variation_percent(scores: Iterable[float]) -> float:
    """Return the coefficient of variation of the loads; 0 when they are equal."""
    values = list(scores)
    mean = sum(values) / len(values) if values else 0.0
    if mean <= 0:
        return 0.0
    return float(100 * (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5 / mean)


def spread_allowed(strategy: LoadStrategy, bundles: int, owners: int) -> int:
    """Return by how many bundles owners may differ before they are levelled.

    With ``fair`` by two at most: enough for a bundle that was moved by hand. The other strategies move
    bundles for other reasons than their number, and levelling must not undo it; yet an owner that comes
    without any bundle is always beyond it.
    """
    mean = bundles // max(owners, 1)
    return max(1, min(2, mean // 2) if strategy is LoadStrategy.FAIR else mean // 2)


def _part(value: float, whole: float) -> float:
    return value / whole if whole > 0 else 0.0
