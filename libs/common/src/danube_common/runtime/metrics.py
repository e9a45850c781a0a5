"""A process's metrics, with a bound on the number of series of each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

PREFIX: Final = "danube_"
SERIES_MAX: Final = 1000
"""Label sets of one metric, unless it says otherwise."""
OTHER: Final = "other"
LATENCY_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# A second series for each counter, that nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """One metric with labels. Beyond ``series_max`` label sets, new ones share the values ``other``.

    A gauge has no such series, because values that are set do not add up: there, new ones are left out.
    """

    def __init__(self, metric: M, labels: int, series_max: int, folded: Counter) -> None:
        self._metric: Any = metric  # its own `labels` is untyped
        self._left_out: Any = Gauge("left_out", "", registry=None) if isinstance(metric, Gauge) else None
        self._labels = labels
        self._series_max = series_max
        self._folded = folded
        self._series: dict[tuple[str, ...], M] = {}

    def labels(self, *values: str) -> M:
        """Return the series of these label values, in the order in which the labels were named."""
        series = self._series.get(values)
        if series is None:
            if len(self._series) >= self._series_max:
                self._folded.inc()
                if self._left_out is not None:
                    return cast("M", self._left_out)
                return cast("M", self._metric.labels(*(OTHER,) * self._labels))
            series = self._series[values] = cast("M", self._metric.labels(*values))
        return series

    def remove(self, *values: str) -> None:
        """Delete a series whose subject is gone, and free its place."""
        if self._series.pop(values, None) is not None:
            self._metric.remove(*values)


class Latencies:
    """Observations of one series with the default buckets, at a tenth of what `Histogram.observe` costs."""

    __slots__ = ("_buckets", "_sum")

    def __init__(self) -> None:
        self._buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._sum = 0.0

    def count(self, seconds: float) -> None:
        """Count one observation."""
        self._buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self._sum += seconds

    def flush(self, histogram: Histogram) -> None:
        """Add what was counted to the histogram."""
        series: Any = histogram  # it has no public way to add several
        for bucket, count in zip(series._buckets, self._buckets, strict=True):  # noqa: SLF001 - see above
            if count:
                bucket.inc(count)
        series._sum.inc(self._sum)  # noqa: SLF001
        self._buckets = [0] * len(self._buckets)
        self._sum = 0.0


class Metrics:
    """The metrics of one process. Names are given without the prefix ``danube_``."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, service: str, instance_id: str) -> None:
        self.registry = CollectorRegistry()
        self._bare: list[bytes] = []
        self._on_render: list[Callable[[], None]] = []
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        instance = Gauge(
            f"{PREFIX}instance", "This process.", ("service", "instance"), registry=self.registry
        )
        instance.labels(service, instance_id).set(1)
        self._folded = Counter(
            f"{PREFIX}metric_folds",
            "Uses of labels counted as other, or left out of a gauge: the metric has all the series it may.",
            ("metric",),
            registry=self.registry,
        )

    def counter(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        *,
        series_max: int = SERIES_MAX,
        suffix: bool = True,
    ) -> Family[Counter]:
        """A count that only grows. Its name ends in ``_total``, except names kept from the original."""
        if not suffix:
            self._bare.append(f"{PREFIX}{name}".encode())
        metric = Counter(PREFIX + name, text, labels, registry=self.registry)
        return Family(metric, len(labels), series_max, self._folded.labels(PREFIX + name))

    def gauge(
        self, name: str, text: str, labels: Sequence[str], *, series_max: int = SERIES_MAX
    ) -> Family[Gauge]:
        """A value that rises and falls."""
        metric = Gauge(PREFIX + name, text, labels, registry=self.registry)
        return Family(metric, len(labels), series_max, self._folded.labels(PREFIX + name))

    def histogram(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
        series_max: int = SERIES_MAX,
    ) -> Family[Histogram]:
        """A distribution. The unit, seconds by default, belongs into the name."""
        metric = Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self.registry)
        return Family(metric, len(labels), series_max, self._folded.labels(PREFIX + name))

    def plain_counter(self, name: str, text: str) -> Counter:
        """A count without labels."""
        return Counter(PREFIX + name, text, registry=self.registry)

    def plain_gauge(self, name: str, text: str) -> Gauge:
        """A value without labels."""
        return Gauge(PREFIX + name, text, registry=self.registry)

    def on_render(self, callback: Callable[[], None]) -> None:
        """Call back before each `render`."""
        self._on_render.append(callback)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        for callback in self._on_render:
            callback()
        rendered = generate_latest(self.registry)
        for name in self._bare:
            rendered = rendered.replace(name + b"_total", name)
        return rendered
