"""Spans go to a collector, and one that answers nonsense costs the spans of that request only."""

from __future__ import annotations

import socket
import threading

from danube_common.tracing.context import TraceContext
from danube_common.tracing.otlp import OtlpExporter
from danube_common.tracing.tracer import Span


def test_spans_that_a_collector_answers_with_nonsense_are_counted_as_lost() -> None:
    lost: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"nonsense\r\n\r\n")

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        exporter = OtlpExporter(f"http://127.0.0.1:{server.getsockname()[1]}", {}, lost.append)
        exporter.take(Span("x", TraceContext(1, 2), None, (), 1, {}, exporter.take, 2))
        exporter.close()
        answering.join(5)
    assert lost == [1]
