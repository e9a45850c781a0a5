from __future__ import annotations

import grpc
import grpc.aio

from danube_client.errors import CallError, from_status

NOTHING = grpc.aio.Metadata()


def test_a_port_that_speaks_http_2_but_not_grpc_is_told_with_its_address() -> None:
    said = "Received http2 header with status: 415"
    error = from_status(
        grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, NOTHING, NOTHING, said), "http://h:9040"
    )
    assert type(error) is CallError
    assert str(error).startswith("http://h:9040 is not the port of a gateway")
    assert "415" in str(error)
