"""What traces of one message in a hundred cost: CPU of the platform a message, on two platforms in turn.

Wall time says little on a machine with other work; the CPU of gateway, owner and NATS is their own. The
collector takes the spans and throws them away.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from danube_client import Reliable, Start, Storage, connect
from danube_harness.platforms.standalone import Platform
from danube_perf.process_usage import cpu_s_of
from danube_proto import danube_api_pb2 as v0_2

ROUNDS = int(os.environ.get("DANUBE_BENCH_ROUNDS", "5"))
MESSAGES = int(os.environ.get("DANUBE_BENCH_MESSAGES", "20000"))
UNARY_MAX, STREAMING_MAX = 1.03, 1.1
"""CPU a message with traces by that without; streaming costs 3 % on quiet cores (ADR 0048)."""
IN_FLIGHT = 64
PAYLOAD = b"x" * 1024
TRACED_OF = 100
KINDS = ("gateway", "topic-owner", "nats")

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@contextmanager
def collector() -> Iterator[str]:
    """The address of what takes spans."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def cpu_s(platform: Platform) -> float:
    return sum(cpu_s_of(pid) for kind in KINDS for pid in platform.pids(kind))


async def streaming(platform: Platform, topic: str, messages: int) -> None:
    """Publish and consume by native streaming; one message of TRACED_OF is in a trace of its producer."""
    numbers = count()
    async with (
        connect(f"http://{platform.gateway_addr}") as client,
        client.producer(topic, strategy=Reliable(Storage.DISK)) as producer,
        client.consumer(topic, "s", initial_position=Start.earliest()) as consumer,
    ):

        async def consume() -> None:
            for _ in range(messages):
                await (await anext(consumer)).ack()

        consuming = asyncio.create_task(consume())
        for number in range(messages):
            attributes = None
            if number % TRACED_OF == 0:
                attributes = {"traceparent": f"00-{next(numbers) + 1:032x}-{1:016x}-01"}
            await producer.post(PAYLOAD, attributes)
        await producer.flush()
        await consuming


async def unary(platform: Platform, topic: str, messages: int) -> None:
    """Publish with one call a message."""
    async with grpc.aio.insecure_channel(platform.gateway_addr) as channel:
        asked = v0_2.ProducerRequest(
            topic_name=topic,
            producer_name="bench",
            dispatch_strategy=v0_2.TopicDispatchStrategy(strategy="NonReliable"),
            schema=v0_2.Schema(name="bytes"),
        )
        create: Any = channel.unary_unary("/danube.ProducerService/CreateProducer")
        found = v0_2.ProducerResponse.FromString(await create(asked.SerializeToString()))
        msg_id = v0_2.MsgID(producer_id=found.producer_id, topic_name=topic, broker_addr="x")
        message = v0_2.StreamMessage(msg_id=msg_id, payload=PAYLOAD).SerializeToString()
        send: Any = channel.unary_unary("/danube.ProducerService/SendMessage")

        async def worker() -> None:
            for _ in range(messages // IN_FLIGHT):
                await send(message)

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


@pytest.mark.parametrize(
    ("work", "messages", "cost_max"),
    [(unary, MESSAGES, UNARY_MAX), (streaming, 5 * MESSAGES, STREAMING_MAX)],
)
async def test_traces_of_one_message_in_a_hundred_cost_little(
    tmp_path: Path,
    work: Callable[..., Awaitable[None]],
    messages: int,
    cost_max: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    numbers = count()
    used = {False: 0.0, True: 0.0}
    with collector() as address:
        services = ("GATEWAY", "TOPIC_OWNER", "STORAGE")
        environment = {f"DANUBE_{one}_TRACING_ENDPOINT": address for one in services}
        environment["DANUBE_GATEWAY_TRACING_SAMPLE"] = "0.01"
        with (
            Platform.run(tmp_path / "off") as off,
            Platform.run(tmp_path / "on", environment=environment) as on,
        ):
            for number in range(ROUNDS + 1):
                # In turn, and each as often first as second: who comes first pays for more.
                for platform, traced in ((off, False), (on, True), (on, True), (off, False)):
                    before = cpu_s(platform)
                    topic = f"/default/{work.__name__}{next(numbers)}"
                    await work(platform, topic, messages)
                    if number:  # the first round warms up
                        used[traced] += (cpu_s(platform) - before) / messages / ROUNDS / 2 * 1e6
                with capsys.disabled():
                    print(f"{work.__name__} {number}: {used[False]:.1f} us, traced {used[True]:.1f}")
    ratio = used[True] / used[False]
    with capsys.disabled():
        print(f"{work.__name__}: {ratio:.3f} x")
    assert ratio <= cost_max
