"""Settings of all services that are times: too short ones and those without end are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from pydantic import BaseModel

from danube_admin_service.service import AdminConfig
from danube_common.runtime.config import ConfigError, ServiceConfig, load
from danube_gateway.service import GatewayConfig
from danube_storage.service import StorageConfig
from danube_topic_owner.service import TopicOwnerConfig

SERVICES: Final[Mapping[str, type[ServiceConfig]]] = {
    "admin": AdminConfig,
    "gateway": GatewayConfig,
    "storage": StorageConfig,
    "topic-owner": TopicOwnerConfig,
}
DELAYS: Final = {"delete_delay_s", "forget_after_s", "rebalance.rest_s"}
"""What may be 0, so that next to nothing is no harm."""


def seconds(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        kind: Any = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from seconds(kind, f"{above}{name}.")
        elif kind is float and name.endswith("_s"):
            yield f"{above}{name}"


TIMES: Final = [(service, name) for service, model in SERVICES.items() for name in seconds(model)]


def refusal(service: str, name: str, value: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(service, SERVICES[service], [f"--{name.replace('_', '-').replace('.', '-')}={value}"], {})
    return str(raised.value)


@pytest.mark.parametrize(("service", "name"), [pair for pair in TIMES if pair[1] not in DELAYS])
def test_an_interval_or_a_deadline_has_a_lower_bound_that_is_named(service: str, name: str) -> None:
    for value in ("1e-300", "0.001", "-1"):
        said = refusal(service, name, value)
        assert name in said
        assert repr(value) in said or value in said
        assert "number from " in said or "number of at least " in said


@pytest.mark.parametrize(("service", "name"), TIMES)
def test_a_time_has_an_end(service: str, name: str) -> None:
    for value in ("inf", "nan"):
        said = refusal(service, name, value)
        assert name in said
        assert "must be a number" in said


def test_an_interval_that_may_be_off_is_off_at_0() -> None:
    assert load("admin", AdminConfig, ["--rebalance-interval-s=0"], {}).config.rebalance.interval_s == 0
    said = refusal("admin", "rebalance.interval_s", "1e-300")
    assert "must be 0, which is off, or a number of at least 0.01, not '1e-300'" in said
