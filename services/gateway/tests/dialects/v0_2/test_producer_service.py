from __future__ import annotations

import pytest

from danube_common.rpc.port import Call
from danube_gateway.dialects.v0_2.producer_service import first_number


@pytest.mark.parametrize(
    ("agent", "request_id", "first"),
    [
        ("grpc-go/1.65.0", 1, 1),  # the official Go client, which counts from 1
        ("tonic/0.12.3", 0, 0),  # the official Rust client
        (
            "grpc-python-asyncio/1.80.0",
            1,
            0,
        ),  # this repository's, from 1 and 0
        ("grpc-go/1.65.0", 17, 0),  # a Go client that creates its producer again goes on somewhere
        ("", 1, 0),
    ],
)
def test_the_first_number_of_a_client_is_told_by_its_kind(agent: str, request_id: int, first: int) -> None:
    call = Call("/danube.ProducerService/CreateProducer", b"", {"user-agent": agent} if agent else {})
    assert first_number(call, request_id) == first
