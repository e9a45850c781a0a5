"""What TLS and tokens cost: the same work on two platforms in turn. See `make bench-security`."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from danube_client import Reliable, Tls, connect
from danube_harness.platforms.standalone import Platform
from danube_harness.rpc.certificates import Authority, secure_channel
from danube_harness.rpc.credentials import ADMIN, bearer, secret_file, token
from danube_proto import danube_api_pb2 as v0_2

ROUNDS = int(os.environ.get("DANUBE_BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("DANUBE_BENCH_SECONDS", "2"))
UNARY_MIN, STREAMING_MIN = 0.75, 0.85
PAYLOAD = b"x" * 256

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1200)]


class Cost(NamedTuple):
    """How often it was done, and the CPU time of the client and of all processes of the platform for each."""

    per_s: float
    client_us: float
    platform_us: float

    @property
    def us(self) -> float:
        """Return both together."""
        return self.client_us + self.platform_us


def cpu_s(platform: Platform) -> float:
    """Return the CPU time that the processes of a platform have used."""
    ticks = 0
    for name in ("gateway", "topic-owner", "storage", "admin", "nats"):
        for pid in platform.pids(name):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def cost_of(platform: Platform, work: Callable[[], Awaitable[object]], in_flight: int) -> Cost:
    """Return what it costs to do something again and again, many at one time."""
    own_s, platform_s = time.process_time(), cpu_s(platform)
    done, began = 0, time.perf_counter()
    ends = began + SECONDS

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await work()
            done += 1

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    took_s = time.perf_counter() - began
    own_s, platform_s = time.process_time() - own_s, cpu_s(platform) - platform_s
    return Cost(done / took_s, own_s / done * 1e6, platform_s / done * 1e6)


async def streaming(platform: Platform, authority: Authority | None, topic: str, in_flight: int) -> Cost:
    """Messages of one producer of the client library."""
    address, tls = f"http://{platform.gateway_addr}", None
    if authority is not None:
        address, tls = f"https://{platform.gateway_addr}", Tls(str(authority.file), token=token(ADMIN))
    async with (
        connect(address, tls=tls) as client,
        client.producer(topic, strategy=Reliable()) as producer,
    ):
        await producer.send(PAYLOAD)
        return await cost_of(platform, lambda: producer.send(PAYLOAD), in_flight)


async def unary(platform: Platform, authority: Authority | None, topic: str, in_flight: int) -> Cost:
    """Calls of SendMessage on one connection, the token in each call's metadata."""
    metadata = () if authority is None else bearer(token(ADMIN))
    plain: Any = grpc.aio.insecure_channel(platform.gateway_addr)
    async with plain if authority is None else secure_channel(platform.gateway_addr, authority) as channel:
        asked = v0_2.ProducerRequest(
            topic_name=topic,
            producer_name="bench",
            dispatch_strategy=v0_2.TopicDispatchStrategy(strategy="NonReliable"),
            schema=v0_2.Schema(name="bytes"),
        )
        create = channel.unary_unary("/danube.ProducerService/CreateProducer")
        found = v0_2.ProducerResponse.FromString(await create(asked.SerializeToString(), metadata=metadata))
        msg_id = v0_2.MsgID(producer_id=found.producer_id, topic_name=topic, broker_addr="x")
        message = v0_2.StreamMessage(msg_id=msg_id, payload=PAYLOAD).SerializeToString()
        send = channel.unary_unary("/danube.ProducerService/SendMessage")
        return await cost_of(platform, lambda: send(message, metadata=metadata), in_flight)


MEASURED = ((unary, UNARY_MIN, 64), (streaming, STREAMING_MIN, 512), (streaming, STREAMING_MIN, 64))
"""What, at least how much of the speed without, and how many at one time."""


async def test_tls_and_tokens_cost_little(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    settings = {
        "AUTH_ENABLED": "true",
        "AUTH_SECRET_KEY_FILE": str(secret_file(tmp_path)),
        "AUTH_SUPER_ADMINS": f"user:{ADMIN}",
    }
    environment = {
        f"DANUBE_{of}_{name}": value for of in ("ADMIN", "GATEWAY") for name, value in settings.items()
    }
    environment |= {"DANUBE_GATEWAY_TLS_CERT_FILE": str(cert), "DANUBE_GATEWAY_TLS_KEY_FILE": str(key)}
    with (
        Platform.run(tmp_path / "open") as plain,
        Platform.run(tmp_path / "closed", environment=environment) as closed,
    ):
        for measured, least, in_flight in MEASURED:
            name = f"{measured.__name__} with {in_flight} in flight"
            ratios, rates = [], []
            for number in range(ROUNDS):
                topic = f"/default/{measured.__name__}-{in_flight}-{number}"
                without, secured = (
                    await measured(plain, None, topic, in_flight),
                    await measured(closed, authority, topic, in_flight),
                )
                # CPU time does not depend on what else the machine does.
                ratios.append(without.us / secured.us)
                rates.append(secured.per_s / without.per_s)
                with capsys.disabled():
                    print(
                        f"\n{name}: {without.per_s:.0f} and {secured.per_s:.0f}/s; CPU: client "
                        f"{without.client_us:.0f} and {secured.client_us:.0f} us, platform "
                        f"{without.platform_us:.0f} and {secured.platform_us:.0f} us, {ratios[-1]:.2f} x"
                    )
            median, rate = statistics.median(ratios), statistics.median(rates)
            with capsys.disabled():
                print(f"\n{name}: {median:.2f} x by CPU time, {rate:.2f} x by rate")
            assert median >= least
