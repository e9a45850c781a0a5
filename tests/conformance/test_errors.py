"""Errors (docs/wire/v0_2.md): every refusal carries ``error-message-bin`` in the form clients read."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from tests.conformance.client import (
    ERROR_TRAILER,
    FULL_NAMES,
    SERVICE_NOT_READY,
    Admin,
    Client,
    Refusal,
    check_refusal,
    consumer_request,
    encoded,
    producer_request,
)
from tests.conformance.strict import decode
from tests.conformance.stubs import danube, danube_admin
from tests.conformance.tables import METHODS, STREAM

from danube_harness.platforms.standalone import Platform
from danube_harness.rpc import raw_http2

LONGEST = "/default/" + "ä" * 200

# Error messages of different lengths, so that base64 would need padding of every kind.
REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("CreateProducer", lambda: producer_request("bad")),
    ("CreateProducer", lambda: producer_request("bad!!")),
    ("CreateProducer", lambda: producer_request("/default/errors_x", schema=None)),
    ("CreateProducer", lambda: producer_request("/no_such_namespace/x")),
    ("SendMessage", lambda: danube.StreamMessage(payload=b"x")),
    ("SendMessage", lambda: danube.StreamMessage(msg_id=danube.MsgID(producer_id=7))),
    ("Subscribe", lambda: consumer_request("/default/errors_x", "sub")),
    ("Subscribe", lambda: consumer_request(LONGEST, "sub")),
    ("ReceiveMessages", lambda: danube.ReceiveRequest(consumer_id=7)),
    ("Ack", lambda: danube.AckRequest(request_id=7)),
    ("TopicLookup", lambda: danube.TopicLookupRequest(topic="/default/errors_x")),
    ("TopicLookup", lambda: danube.TopicLookupRequest(topic="/default/errors_xy")),
    ("TopicLookup", lambda: danube.TopicLookupRequest(topic="/default/errors_xyz")),
    ("TopicPartitions", lambda: danube.TopicLookupRequest(topic="x" * 10_000)),
    ("GetSchema", lambda: danube.SchemaRequest(topic="/default/errors_x")),
    ("HealthCheck", lambda: danube.HealthCheckRequest(client=9)),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
async def test_a_refusal_is_one_header_block_with_unpadded_base64(platform: Platform, case: int) -> None:
    method, request = REFUSED[case]
    answer = await raw_http2.call(platform.gateway_addr, FULL_NAMES[method], encoded(request()))
    assert answer.body == b""
    assert len(answer.blocks) == 1, "not trailers-only"
    headers = dict(answer.blocks[0])
    assert headers["grpc-status"] != "0"
    assert headers[":status"] == "200"
    text = headers[ERROR_TRAILER]
    assert "=" not in text, "padded: the Rust client panics"
    assert "," not in text, "sent twice"
    error = decode("danube.ErrorMessage", base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    assert error.error_message
    assert error.redirect_to == ""
    assert error.error_type != SERVICE_NOT_READY


def test_the_cases_cover_every_method_of_the_client_port() -> None:
    covered = {FULL_NAMES[method] for method, _ in REFUSED}
    assert covered == {name for name in METHODS if name.startswith("/danube.")}


@pytest.mark.parametrize("method", [name.rpartition("/")[2] for name in METHODS if "/danube." in name])
async def test_bytes_that_are_no_request_are_refused_with_the_same_form(client: Client, method: str) -> None:
    for garbage in (b"\xff", b"\x0a\xff", b"\x0b\x0c", b"\x07" * 20, b"\x12\x01\xff"):
        if FULL_NAMES[method] == STREAM:
            with pytest.raises(Refusal) as caught:
                await client.receive_raw(garbage).next()
            check_refusal(method, caught.value)
            refusal = caught.value
        else:
            refusal = await client.refused(method, garbage)
        assert refusal.code == "INVALID_ARGUMENT", garbage


async def test_an_unknown_method_is_unimplemented(platform: Platform) -> None:
    answer = await raw_http2.call(platform.gateway_addr, "/danube.Discovery/Nothing", b"")
    assert dict(answer.blocks[-1])["grpc-status"] == "12"


async def test_a_client_at_the_admin_port_is_told_where_clients_connect(platform: Platform) -> None:
    client = Client(platform.admin_addr)
    refusal = await client.refused("CreateProducer", producer_request("/default/t"))
    assert refusal.code == "UNIMPLEMENTED"
    assert refusal.message.startswith("this is the admin port: clients connect to http://")
    assert refusal.message.rpartition("/")[2] in platform.gateway_addrs
    await client.close()


async def test_an_admin_tool_at_the_client_port_is_told_where_the_admin_port_is(platform: Platform) -> None:
    admin = Admin(platform.gateway_addr)
    refusal = await admin.refused("ListTopics", danube_admin.NamespaceRequest(name="default"))
    assert refusal.code == "UNIMPLEMENTED"
    assert refusal.message == (
        f"this is the client port: danube-admin connects to http://{platform.admin_addr}"
    )
    await admin.close()


async def test_a_request_that_is_too_large_is_told_the_bound_and_the_setting(
    platform: Platform,
) -> None:
    large = danube.StreamMessage(payload=bytes(18 * 1024 * 1024))
    client, admin = Client(platform.gateway_addr), Admin(platform.admin_addr)
    refusal = await client.refused("SendMessage", large)
    assert refusal.code == "RESOURCE_EXHAUSTED"
    assert refusal.message.startswith(f"the request has {large.ByteSize()} bytes, and at most ")
    assert "max_message_size" in refusal.message
    refusal = await admin.refused("ListTopics", danube_admin.NamespaceRequest(name="x" * 5_000_000))
    assert refusal.code == "RESOURCE_EXHAUSTED"
    assert "at most 4194304 are taken: this is the admin port" in refusal.message
    await client.close()
    await admin.close()


async def test_a_refused_call_leaves_the_connection_usable(client: Client, topic: str) -> None:
    for _ in range(20):
        await client.refused("TopicLookup", danube.TopicLookupRequest(topic="bad"))
    producer = await client.producer(topic)
    await producer.send("fine")
