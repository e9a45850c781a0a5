"""What the platform does now and did in the last hour, from its processes' metrics: pure, and bounded."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from danube_admin_service.console.live.scrape import Connected, Flow, Lag, Scrape

SAMPLE_S: Final = 10.0
SAMPLES_MAX: Final = 360
"""One hour."""
SERIES_MAX: Final = 5_000
"""Topics whose rates are kept; those of topics beyond it are in the total only."""
_COLUMNS: Final = len(Flow._fields)


@dataclass(frozen=True)
class Process:
    """How one process does.

    Attributes:
        cpu_percent: of one core, since the sample before.
        problem: why it is not ready or cannot be asked; empty if all is well.
        calls_per_s: RPCs that it answers, since the sample before.
    """

    cpu_percent: float = 0.0
    memory_bytes: float = 0.0
    problem: str = ""
    calls_per_s: float = 0.0


@dataclass(frozen=True)
class Reading:
    """What one process answered: its metrics, None if it did not; and why it is not ready."""

    scrape: Scrape | None
    problem: str = ""


class Activity:
    """Rates, backlogs and their history.

    Attributes:
        processes: by instance id.
        rates: by topic, of the last sample; topics without traffic are absent.
        lags: by topic and subscription; those without a backlog may be absent.
        connected: by topic.
        archived_bytes: that storage has made durable, a second.
        replayed_bytes: that storage has read of segments for topic owners, a second.
        sampled_ms: when the last sample was taken, wall clock; 0 before the first.
    """

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.rates: dict[str, Flow] = {}
        self.lags: dict[tuple[str, str], Lag] = {}
        self.archived_bytes = self.replayed_bytes = 0.0
        self.connected: dict[str, Connected] = {}
        self.sampled_ms = 0
        self._before: dict[str, tuple[float, Scrape]] = {}
        self._total = _Ring()
        self._rings: dict[str, _Ring] = {}

    def take(self, at_s: float, now_ms: int, readings: Mapping[str, Reading]) -> None:
        """Take one sample: what every living process answered, by instance id. ``at_s`` never goes back."""
        rates: dict[str, Flow] = {}
        lags: dict[tuple[str, str], Lag] = {}
        processes: dict[str, Process] = {}
        connected: dict[str, Connected] = {}
        archived = replayed = 0.0
        for instance_id, reading in readings.items():
            cpu_percent = memory_bytes = calls_per_s = 0.0
            if (scrape := reading.scrape) is not None:
                memory_bytes = scrape.memory_bytes
                if (before := self._before.get(instance_id)) is not None:
                    seconds = max(at_s - before[0], 1e-3)
                    cpu_percent = 100 * max(scrape.cpu_s - before[1].cpu_s, 0.0) / seconds
                    calls_per_s = max(scrape.calls - before[1].calls, 0.0) / seconds
                    archived += max(scrape.archived_bytes - before[1].archived_bytes, 0.0) / seconds
                    replayed += max(scrape.replayed_bytes - before[1].replayed_bytes, 0.0) / seconds
                    for topic, rate in _rates(before[1].flows, scrape.flows, seconds):
                        rates[topic] = rates.get(topic, Flow()).plus(rate)
                lags.update(scrape.lags)
                connected.update(scrape.connected)
                self._before[instance_id] = at_s, scrape
            processes[instance_id] = Process(cpu_percent, memory_bytes, reading.problem, calls_per_s)
        for gone in self._before.keys() - readings.keys():
            del self._before[gone]
        self.connected = connected
        self.archived_bytes, self.replayed_bytes = archived, replayed
        self.processes, self.rates, self.lags, self.sampled_ms = processes, rates, lags, now_ms
        self._keep(rates)

    @property
    def total(self) -> Flow:
        """The rates of all topics together."""
        return self.rate_of(self.rates)

    def totals_of(self, topics: Iterable[str]) -> Flow:
        """Return what the living processes have counted of some topics together."""
        total = Flow()
        for topic in topics:
            for _, scrape in self._before.values():
                total = total.plus(scrape.flows.get(topic, Flow()))
        return total

    def calls_of(self, instance_id: str) -> int:
        """Return how many RPCs a process has answered, 0 if it is not known."""
        _, scrape = self._before.get(instance_id, (0.0, Scrape()))
        return int(scrape.calls)

    def call_rate_of(self, instance_id: str) -> float:
        """Return how many RPCs a process answers in a second, 0 if it is not known."""
        process = self.processes.get(instance_id)
        return process.calls_per_s if process is not None else 0.0

    def failures_of(self, topic: str) -> dict[str, int]:
        """Return by reason how many messages the living processes have not published."""
        found: Counter[str] = Counter()
        for _, scrape in self._before.values():
            for (name, reason), messages in scrape.failures.items():
                if name == topic:
                    found[reason] += int(messages)
        return dict(sorted(found.items()))

    def rate_of(self, topics: Iterable[str]) -> Flow:
        """Return the rates of some topics together."""
        total = Flow()
        for topic in topics:
            total = total.plus(self.rates.get(topic, Flow()))
        return total

    def history(self, topics: Iterable[str] | None = None) -> list[Flow]:
        """Return the rates of some topics together, or of all, one for each sample, oldest first."""
        rings = (
            [self._total]
            if topics is None
            else [self._rings[topic] for topic in topics if topic in self._rings]
        )
        total = [Flow()] * self._total.length
        for ring in rings:
            samples = ring.samples()
            start = len(total) - len(samples)
            for index, sample in enumerate(samples):
                total[start + index] = total[start + index].plus(sample)
        return total

    def _keep(self, rates: Mapping[str, Flow]) -> None:
        self._total.add(self.total)
        for topic in rates:
            if topic not in self._rings and len(self._rings) < SERIES_MAX:
                self._rings[topic] = _Ring()
        for topic, ring in list(self._rings.items()):
            ring.add(rates.get(topic, Flow()))
            if ring.silent >= SAMPLES_MAX:
                del self._rings[topic]


def _rates(before: Mapping[str, Flow], now: Mapping[str, Flow], seconds: float) -> list[tuple[str, Flow]]:
    """Return the rates of topics with traffic. A total that fell is of a process that began anew."""
    found = []
    for topic, totals in now.items():
        grown = [
            new - old if new >= old else new
            for new, old in zip(totals, before.get(topic, Flow()), strict=True)
        ]
        if any(grown):
            found.append((topic, Flow(*(value / seconds for value in grown))))
    return found


class _Ring:
    """The last SAMPLES_MAX rates of one topic; ``silent`` of them, up to now, were 0."""

    __slots__ = ("_next", "_values", "length", "silent")

    def __init__(self) -> None:
        self._values = array("f", bytes(4 * _COLUMNS * SAMPLES_MAX))
        self._next = 0
        self.length = 0
        self.silent = 0

    def add(self, flow: Flow) -> None:
        start = _COLUMNS * self._next
        self._values[start : start + _COLUMNS] = array("f", flow)
        self._next = (self._next + 1) % SAMPLES_MAX
        self.length = min(self.length + 1, SAMPLES_MAX)
        self.silent = 0 if any(flow) else self.silent + 1

    def samples(self) -> list[Flow]:
        oldest = self._next - self.length
        starts = (_COLUMNS * (number % SAMPLES_MAX) for number in range(oldest, self._next))
        return [Flow(*self._values[start : start + _COLUMNS]) for start in starts]
