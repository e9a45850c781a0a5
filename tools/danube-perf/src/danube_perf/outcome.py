"""What a run found, as figures. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from danube_perf.integrity import Counts
from danube_perf.latency import Latencies
from danube_perf.plan import DURABILITY, Failed, Produced, Result, Tick
from danube_perf.process_usage import Watched
from danube_perf.scenario import Scenario
from danube_perf.timeline import Timeline

MIB: Final = 1 << 20


class Outcome:
    """Adds up what the processes of a run tell.

    Attributes:
        watched: processes of the platform, measured beside the run.
        timeline: the run over time.
        sent: how many numbers each producer used.
        refused: see `plan.Finish`.
        measure_ns: when measuring began.
        failure: why the run ended early, if it did by itself.
        interrupted: whether the user ended it early.
    """

    def __init__(self, scenario: Scenario, watched: list[Watched]) -> None:
        self.scenario = scenario
        self.watched = watched
        self.timeline = Timeline()
        self.publish, self.ack, self.end_to_end = Latencies(), Latencies(), Latencies()
        self.sent: dict[int, int] = {}
        self.refused: dict[int, list[int]] = {}
        self.refusals: Counter[str] = Counter()
        self.failed_acks: Counter[str] = Counter()
        self.counts = Counts()
        self.foreign = 0
        self.produced = 0
        self.received = 0
        self.behind_ns = 0
        self.measure_ns = 0
        self.failure: Failed | None = None
        self.interrupted = False
        self._produced_ns = 0
        self._received_ns = 0
        self._acked_ns = 0
        self._client_s = 0.0

    def add_tick(self, tick: Tick) -> None:
        """Take an interval of one process in."""
        self.produced += tick.produced
        self.received += tick.received
        self.publish.add(tick.publish)
        self.ack.add(tick.ack)
        self.end_to_end.add(tick.end_to_end)

    def add_produced(self, reports: list[Produced]) -> None:
        """Take in what the producers of all processes did."""
        for report in reports:
            self.sent |= report.sent
            self.refused |= report.refused
            self.refusals.update(report.refusals)
            self.behind_ns = max(self.behind_ns, report.behind_ns)
            self._produced_ns = max(self._produced_ns, report.last_ns)

    def add_results(self, results: list[Result]) -> None:
        """Take in what the consumers of all processes found."""
        for result in results:
            self.counts.add(Counts(result.received, result.lost, result.duplicated, result.reordered))
            self.failed_acks.update(result.failed_acks)
            self.foreign += result.foreign
            self._received_ns = max(self._received_ns, result.last_ns)
            self._acked_ns = max(self._acked_ns, result.acked_ns)
            self._client_s += result.cpu_s

    @property
    def messages(self) -> int:
        """The messages that costs are divided by: those published, or received where none were."""
        return self.produced or self.received

    def _seconds(self, last_ns: int) -> float:
        return max((last_ns - self.measure_ns) / 1e9, 1e-9) if last_ns else 0.0

    def _rate(self, messages: int, last_ns: int) -> dict[str, Any]:
        seconds = self._seconds(last_ns)
        per_s = messages / seconds if seconds else 0.0
        mib = per_s * self.scenario.size_bytes / MIB
        return {
            "messages": messages,
            "seconds": round(seconds, 3),
            "per_s": round(per_s, 1),
            "mib_per_s": round(mib, 3),
        }

    def figures(self) -> dict[str, Any]:
        """Return everything as JSON values; microseconds where a name ends with ``_us``."""
        scenario = self.scenario
        found: dict[str, Any] = {
            "topics": len(scenario.topics),
            "topic": scenario.topics[0],
            "producers": scenario.producers,
            "subscriptions": scenario.subscriptions,
            "consumers": scenario.consumers if scenario.subscriptions else 0,
            "in_flight": scenario.in_flight,
            "rate": scenario.rate,
            "size_bytes": scenario.size_bytes,
            "interrupted": self.interrupted,
            "error": self.failure.text if self.failure else None,
        }
        if scenario.producers:
            found["storage"] = scenario.storage
            found["durability"] = DURABILITY[scenario.storage]
            found["publish"] = {
                **self._rate(self.produced, self._produced_ns),
                "latency_us": self.publish.summary(),
                "behind_ms": round(self.behind_ns / 1e6, 3) if scenario.rate else None,
                "refused": sum(self.refusals.values()),
                "refusals": dict(self.refusals),
            }
        if scenario.subscriptions:
            found["consume"] = {
                **self._rate(self.received, self._received_ns),
                "end_to_end_us": self.end_to_end.summary(),
                "acks_per_s": self._rate(self.ack.count, self._acked_ns)["per_s"],
                "ack_us": self.ack.summary(),
                "failed_acks": dict(self.failed_acks),
            }
            found["integrity"] = {
                "sent": sum(self.sent.values()) if scenario.producers else None,
                "received": self.counts.received,
                "lost": self.counts.lost,
                "duplicated": self.counts.duplicated,
                "reordered": self.counts.reordered,
                "foreign": self.foreign,
            }
        found["processes"] = {one.name: self._usage(one) for one in self.watched}
        found["client_cpu_us_per_message"] = self._per_message(self._client_s)
        found["timeline"] = [
            {
                "at_s": round(point.begin_s, 3),
                "seconds": round(point.seconds, 3),
                "produced": point.produced,
                "received": point.received,
                "p50_us": point.p50_us,
                "p99_us": point.p99_us,
            }
            for point in self.timeline.points
        ]
        found["curve"] = self.shown().curve()
        return found

    def shown(self) -> Latencies:
        """Return the latencies that matter most: end to end, else of publishing."""
        return self.end_to_end if self.scenario.subscriptions else self.publish

    def _usage(self, one: Watched) -> dict[str, Any]:
        return {
            "cpu_us_per_message": None if one.gone else self._per_message(one.cpu_s),
            "first_mib": round(one.first_bytes / MIB, 1),
            "last_mib": round(one.last_bytes / MIB, 1),
            "most_mib": round(one.most_bytes / MIB, 1),
            "gone": one.gone,
        }

    def _per_message(self, cpu_s: float) -> float | None:
        return round(cpu_s / self.messages * 1e6, 2) if self.messages else None
