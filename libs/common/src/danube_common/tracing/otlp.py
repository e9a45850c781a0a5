"""Sends spans to a collector by OTLP over HTTP, from a thread of its own.

The SDK of OpenTelemetry would take about five times the CPU for a span (ADR 0048).
"""

from __future__ import annotations

import os
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

import structlog

from danube_common.tracing.span_encoding import encode_process, encode_request
from danube_common.tracing.tracer import Span

QUEUE_SPANS_MAX: Final = 1024
"""Spans that wait for the collector; beyond it the oldest are dropped."""
REQUEST_SPANS_MAX: Final = 512
FLUSH_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 2.0
"""A request that fails is not repeated. A process that stops waits so long for the last one."""
HEADERS_VARIABLE: Final = "OTEL_EXPORTER_OTLP_HEADERS"
"""``name=value,name=value``, percent-encoded: the collector's credentials."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.tracing")


class OtlpExporter:
    """Keeps spans and sends them every FLUSH_S.

    Args:
        endpoint: the collector's address, without a path.
        resource: what is told of the process.
        on_lost: called with how many spans were not taken.
    """

    def __init__(self, endpoint: str, resource: Mapping[str, str], on_lost: Callable[[int], None]) -> None:
        self._url = f"{endpoint.rstrip('/')}/v1/traces"
        self._process = encode_process(resource)
        self._on_lost = on_lost
        self._headers = {"content-type": "application/x-protobuf", **headers_of(os.environ)}
        self._waiting: deque[Span] = deque(maxlen=QUEUE_SPANS_MAX)
        self._closing = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def take(self, span: Span) -> None:
        """Keep a span until it is sent."""
        if len(self._waiting) == QUEUE_SPANS_MAX:
            self._on_lost(1)
        self._waiting.append(span)

    def close(self) -> None:
        """Send what waits, for REQUEST_TIMEOUT_S at most."""
        self._closing.set()
        self._thread.join(REQUEST_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while count := min(len(self._waiting), REQUEST_SPANS_MAX):
            spans = [self._waiting.popleft() for _ in range(count)]
            try:
                body = encode_request(self._process, spans)
                request = urllib.request.Request(self._url, body, self._headers)  # noqa: S310 - http, by the settings
                with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S):  # noqa: S310
                    self._failing = False
            except Exception as error:  # noqa: BLE001 - the thread goes on with the next spans
                self._on_lost(count)
                if not self._failing:
                    _log.warning("spans_not_sent", url=self._url, error=str(error))
                self._failing = True


def headers_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of HEADERS_VARIABLE."""
    pairs = (one.partition("=") for one in environment.get(HEADERS_VARIABLE, "").split(",") if one)
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}
