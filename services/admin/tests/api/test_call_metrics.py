from __future__ import annotations

import pytest

from danube_admin_service.api.call_metrics import counted
from danube_admin_service.api.errors import status_of
from danube_common.errors import LimitExceeded, NotFound
from danube_common.rpc.port import Call, Methods, RpcError, StatusCode, answered
from danube_common.runtime.metrics import Metrics

METHOD = "/danube_admin.TopicAdmin/DeleteTopic"


def calls(metrics: Metrics, code: str) -> float | None:
    return metrics.registry.get_sample_value("danube_admin_calls_total", {"method": METHOD, "code": code})


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (None, "OK"),
        (NotFound("no such topic"), "NOT_FOUND"),
        (LimitExceeded("concurrent_calls_max", "too many"), "RESOURCE_EXHAUSTED"),
        (RpcError(StatusCode.INVALID_ARGUMENT, "wrong"), "INVALID_ARGUMENT"),
        (ZeroDivisionError(), "INTERNAL"),
    ],
)
async def test_each_call_counts_once_under_the_status_it_ended_with(
    raised: Exception | None, code: str
) -> None:
    async def handler(call: Call) -> bytes:
        if raised is not None:
            raise raised
        return call.request[::-1]

    metrics = Metrics("admin", "1")
    methods = counted(Methods({METHOD: handler}, on_error=status_of), metrics)
    call = Call(METHOD, b"ab")
    if raised is None:
        assert await answered(methods.unary[METHOD], call) == b"ba"
    else:
        with pytest.raises(RpcError) as caught:
            await answered(methods.unary[METHOD], call)
        assert caught.value.code.name == code
    assert calls(metrics, code) == 1
