"""Counts the calls of a port."""

from __future__ import annotations

from prometheus_client import Counter

from danube_common.rpc.port import StatusCode
from danube_common.runtime.metrics import OTHER, Family, Metrics


class CallCounts:
    """``danube_broker_rpc_total``: calls by service, method and ``ok`` or the status that was told.

    It gets the calls that succeeded when it is read: counting in it takes longer. Without ``metrics`` nobody
    reads the counts.
    """

    def __init__(self, metrics: Metrics | None) -> None:
        self._succeeded: dict[str, int] = {}
        self._family: Family[Counter] | None = None
        if metrics is not None:
            self._family = metrics.counter(
                "broker_rpc", "Calls that have ended, by their result.", ("service", "method", "result")
            )
            metrics.on_render(self._flush)

    def succeeded(self, name: str) -> None:
        """Count a call that was answered, by the full name of its method."""
        self._succeeded[name] = self._succeeded.get(name, 0) + 1

    def ended(self, name: str, code: StatusCode, calls: int = 1) -> None:
        """Count calls by their status; ``name`` is empty if there is no such method."""
        if self._family is None:
            return
        service, _, method = name.removeprefix("/").partition("/")
        self._family.labels(service or OTHER, method or OTHER, code.name.lower()).inc(calls)

    def _flush(self) -> None:
        succeeded, self._succeeded = self._succeeded, {}
        for name, calls in succeeded.items():
            self.ended(name, StatusCode.OK, calls)
