"""The configuration of traces, and the tracer of a process."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, Self

from pydantic import Field, model_validator

from danube_common.runtime.metrics import Metrics
from danube_common.runtime.section import Section
from danube_common.tracing.tracer import Tracer

NEEDED: Final = "opentelemetry.proto"


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

    @model_validator(mode="after")
    def _check_installed(self) -> Self:
        if self.endpoint and not _is_installed(NEEDED):
            raise ValueError("endpoint needs opentelemetry-proto: pip install 'danubepy-server[otlp]'")
        return self


def open_tracer(config: TracingConfig, service: str, instance_id: str, metrics: Metrics) -> Tracer | None:
    """Return the tracer of the process; None if there are no traces."""
    if not config.endpoint:
        return None
    from danube_common.tracing.otlp import OtlpExporter  # noqa: PLC0415 - needs an extra

    dropped = metrics.plain_counter("spans_dropped", "Spans beyond the bound, or that were not sent.")
    resource = {"service.name": f"danube-{service}", "service.instance.id": instance_id}
    exporter = OtlpExporter(config.endpoint, resource, dropped.inc)
    return Tracer(config.sample, exporter.take, on_dropped=dropped.inc, close=exporter.close)


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
