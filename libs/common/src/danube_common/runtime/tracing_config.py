"""The configuration of traces, and the tracer of a process."""

from __future__ import annotations

from pydantic import Field

from danube_common.runtime.metrics import Metrics
from danube_common.runtime.section import Section
from danube_common.tracing.otlp import OtlpExporter
from danube_common.tracing.tracer import Tracer


class TracingConfig(Section):
    """Traces: whether there are any, and how many."""

    endpoint: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="OTLP/HTTP address of a collector, such as http://127.0.0.1:4318; empty: no traces",
    )
    sample: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="part of the messages and calls without a trace of their own for which one is begun",
    )


def open_tracer(config: TracingConfig, service: str, instance_id: str, metrics: Metrics) -> Tracer | None:
    """Return the tracer of the process; None if there are no traces."""
    if not config.endpoint:
        return None
    dropped = metrics.plain_counter("spans_dropped", "Spans beyond the bound, or that were not sent.")
    resource = {"service.name": f"danube-{service}", "service.instance.id": instance_id}
    exporter = OtlpExporter(config.endpoint, resource, dropped.inc)
    return Tracer(config.sample, exporter.take, on_dropped=dropped.inc, close=exporter.close)
