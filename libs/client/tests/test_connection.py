from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc.aio
import pytest

import danube_client
from danube_client.connection import normalized
from danube_harness.services.stub_gateway import StubGateway


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:6650", "http://127.0.0.1:6650"),
        ("http://127.0.0.1:6650/", "http://127.0.0.1:6650"),
        ("gateway.example:1", "http://gateway.example:1"),
        ("http://[::1]:6650", "http://[::1]:6650"),
        ("https://gateway.example:1/", "https://gateway.example:1"),
    ],
)
def test_addresses_are_taken_with_and_without_their_scheme(address: str, expected: str) -> None:
    assert normalized(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://",
        "http://host",
        "ftp://host:1",
        "https://host",
        "http://host:99999",
        "host:x",
        "http://host:1/path",
        "a b",
    ],
)
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(danube_client.InvalidAddress):
        danube_client.connect(address)


async def test_with_tls_no_plaintext_address_is_used() -> None:
    with pytest.raises(danube_client.InvalidAddress, match="with TLS an address is https"):
        async with danube_client.connect("http://127.0.0.1:1", tls=danube_client.Tls()):
            pass


@pytest.mark.parametrize("given", [{"cert_file": "x"}, {"key_file": "x"}])
def test_a_certificate_and_its_key_need_each_other(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="need each other"):
        danube_client.Tls(**given)


def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(danube_client.InvalidAddress):
        danube_client.connect()


async def test_a_refusing_address_is_unreachable_without_waiting(gateway: StubGateway) -> None:
    await gateway.stop()
    with pytest.raises(danube_client.Unreachable, match=gateway.address):
        await danube_client.connect(gateway.address, connect_timeout_s=3600)


async def test_a_silent_address_is_unreachable_after_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # listens, and never accepts
        port = silent.getsockname()[1]
        with pytest.raises(danube_client.Unreachable, match="does not answer"):
            await danube_client.connect(f"127.0.0.1:{port}", connect_timeout_s=0.1)


async def test_a_call_that_cannot_be_made_is_explained_in_plain_words(gateway: StubGateway) -> None:
    once = danube_client.Retry(attempts_max=1)
    async with danube_client.connect(gateway.address, retry=once, call_timeout_s=0.1) as client:
        gateway.gates["GetSchema"] = asyncio.Event()
        with pytest.raises(danube_client.Unreachable, match=f"^{gateway.address} does not answer in time$"):
            await client.schema("/default/t")
        await gateway.stop()
        with pytest.raises(
            danube_client.Unreachable, match=f"^{gateway.address} (cannot be reached|does not)"
        ):
            await client.schema("/default/t")
        with pytest.raises(danube_client.Unreachable, match=f"^{gateway.address} cannot be reached$"):
            await client.schema("/default/t")


async def test_the_first_address_that_answers_is_home(gateway: StubGateway) -> None:
    async with StubGateway() as dead:
        pass
    async with danube_client.connect(dead.address, gateway.address) as client:
        await client.producer("/default/t", name="p")
    assert len(gateway.requests["CreateProducer"]) == 1


class _EndsEarly:
    """Methods whose calls end before the first request is written: gRPC has lost the server's status then."""

    def __init__(self, methods: dict[str, int], name: str) -> None:
        self._methods = methods
        self._name = name

    def __call__(self, **_metadata: object) -> _EndsEarly:
        self._methods[self._name] = self._methods.get(self._name, 0) + 1
        return self

    async def write(self, _request: object) -> None:
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "Internal error from Core")

    def cancel(self) -> None:
        """Nothing is on its way."""


async def test_a_platform_without_streaming_is_known_though_grpc_has_lost_its_answer(
    gateway: StubGateway,
) -> None:
    tried: dict[str, int] = {}
    once = danube_client.Retry(attempts_max=1)
    async with danube_client.connect(gateway.address, retry=once) as client:
        home: Any = client._connections.home
        home._publish, home._consume = (_EndsEarly(tried, name) for name in ("publish", "consume"))
        producer = await client.producer("/default/t", name="p", schema=danube_client.Schema.string())
        consumer = await client.consumer("/default/t", "s", name="c")
        await producer.send("by the calls of v0.2")
        assert (await consumer.receive()).text == "by the calls of v0.2"
    assert tried == {"publish": 1, "consume": 1}
