"""RabbitMQ, Redis and native streaming on this machine, with a disk topic's durability: `make bench-peers`.

They are Debian's packages, started here on free ports with data of their own, and ended at the end. What is
not installed, and cannot be, is left out with a word. The Python clients are in requirements/bench.txt.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.scenarios import SECONDS
from tests.benchmarks.speed_page import PEERS, REPORTS, peers_table

from danube_client import Consumer, Reliable, Storage, SubscriptionType, connect
from danube_harness.platforms.standalone import Platform

PAYLOAD = bytes(1024)
IN_FLIGHT = 256
START_S_MAX = 60.0
CONSUME_S_MAX = 300.0
ROUNDS = int(os.environ.get("DANUBE_BENCH_ROUNDS", "5"))
PACKAGES = {"redis-server": "redis-server", "rabbitmq-server": "rabbitmq-server"}


class Missing(Exception):
    """A peer cannot be measured here; the text says why."""


def program(name: str) -> str:
    """Return the path of a Debian program, which is installed if that is possible."""
    # Not Debian's /usr/sbin/rabbitmq-server, which becomes another user and forgets the environment.
    search = os.pathsep.join(["/usr/lib/rabbitmq/bin", os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which(name, path=search)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL=1: Debian does not start what it installs.
        words = ["apt-get", "install", "-y", "-q", "--no-install-recommends", PACKAGES[name]]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        print(f"installing {PACKAGES[name]}", flush=True)
        subprocess.run(words, check=False, env=environment, stdout=subprocess.DEVNULL)
        found = shutil.which(name, path=search)
    if found is None:
        raise Missing(f"{name} is not installed: apt-get install {PACKAGES[name]}")
    return found


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(words: list[str], port: int, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a server until its port answers, and end it at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        ends = time.monotonic() + START_S_MAX
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                break
            if process.poll() is not None or time.monotonic() > ends:
                raise Missing(f"{words[0]} does not start: {log.read_text(errors='replace')[-1000:]}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def rate(publish: Callable[[], Awaitable[Any]], in_flight: int) -> tuple[float, int]:
    """Return answered publishes per second, and how many there were."""
    begun, count = time.perf_counter(), 0

    async def keep_publishing() -> None:
        nonlocal count
        while time.perf_counter() - begun < SECONDS:
            await publish()
            count += 1

    await asyncio.gather(*(keep_publishing() for _ in range(in_flight)))
    return count / (time.perf_counter() - begun), count


async def redis_figures(port: int) -> dict[str, float]:
    """Measure a stream with a consumer group."""
    import redis.asyncio  # noqa: PLC0415 - of requirements/bench.txt

    client: Any = redis.asyncio.Redis(port=port)
    await client.delete("bench")
    await client.xgroup_create("bench", "readers", id="0", mkstream=True)
    awaited, _ = await rate(lambda: client.xadd("bench", {"p": PAYLOAD}), 1)

    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        async with client.pipeline(transaction=False) as pipeline:
            for _ in range(IN_FLIGHT):
                pipeline.xadd("bench", {"p": PAYLOAD})
            count += len(await pipeline.execute())
    many = count / (time.perf_counter() - begun)

    begun, count = time.perf_counter(), 0
    while found := await client.xreadgroup("readers", "one", {"bench": ">"}, count=IN_FLIGHT):
        identities = [identity for identity, _ in found[0][1]]
        await client.xack("bench", "readers", *identities)
        count += len(identities)
    consumed = count / (time.perf_counter() - begun)
    await client.delete("bench")
    await client.aclose()
    return {"awaited_per_s": awaited, "in_flight_per_s": many, "consume_per_s": consumed}


async def rabbitmq_figures(port: int) -> dict[str, float]:
    """Measure a quorum queue with publisher confirms."""
    import aio_pika  # noqa: PLC0415 - of requirements/bench.txt

    connection: Any = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{port}/")
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=IN_FLIGHT)
    queue = await channel.declare_queue("bench", durable=True, arguments={"x-queue-type": "quorum"})
    await queue.purge()

    async def publish() -> None:
        message = aio_pika.Message(PAYLOAD, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key="bench")

    awaited, some = await rate(publish, 1)
    many, more = await rate(publish, IN_FLIGHT)
    begun, count = time.perf_counter(), 0
    async with queue.iterator() as messages:
        async for message in messages:
            count += 1
            ends = count == some + more or time.perf_counter() - begun > SECONDS
            if ends or not count % (IN_FLIGHT // 2):
                await message.ack(multiple=True)
            if ends:
                break
    consumed = count / (time.perf_counter() - begun)
    await queue.delete(if_unused=False, if_empty=False)
    await connection.close()
    return {"awaited_per_s": awaited, "in_flight_per_s": many, "consume_per_s": consumed}


async def one_by_one(consumer: Consumer, messages: int) -> None:
    """Receive and acknowledge message by message."""
    async for message in consumer:
        await message.ack()
        if not (messages := messages - 1):
            return


async def in_batches(consumer: Consumer, messages: int) -> None:
    """Receive and acknowledge as many together as Redis."""
    while messages > 0:
        batch = await consumer.receive_batch(IN_FLIGHT)
        await consumer.ack_all(batch)
        messages -= len(batch)


async def danube_figures(url: str, consume: Callable[[Consumer, int], Awaitable[None]]) -> dict[str, float]:
    """Measure native streaming by the client library."""
    topic = f"/default/bench-{secrets.token_hex(4)}"
    async with connect(url, streaming=True) as client:
        async with client.producer(topic, strategy=Reliable(storage=Storage.DISK)) as producer:
            awaited, some = await rate(lambda: producer.send(PAYLOAD), 1)
            begun, more = time.perf_counter(), 0
            while time.perf_counter() - begun < SECONDS:
                await producer.post(PAYLOAD)
                more += 1
            await producer.flush()
            many = more / (time.perf_counter() - begun)
        begun = time.perf_counter()
        async with client.consumer(topic, "readers", type=SubscriptionType.EXCLUSIVE) as consumer:
            async with asyncio.timeout(CONSUME_S_MAX):
                await consume(consumer, some + more)
                await consumer.flush_acks()
        consumed = (some + more) / (time.perf_counter() - begun)
    return {"awaited_per_s": awaited, "in_flight_per_s": many, "consume_per_s": consumed}


@dataclass(frozen=True)
class Peer:
    """A system that runs; ``measure`` is one round."""

    name: str
    durability: str
    measure: Callable[[], Awaitable[dict[str, float]]]


@contextlib.contextmanager
def danube_peer(directory: Path) -> Iterator[list[Peer]]:
    """Run this platform."""
    with Platform.run(directory) as platform:
        yield [
            Peer(
                f"Danube, native streaming by the client library, {mode}",
                "synced to disk when it is answered",
                partial(danube_figures, f"http://{platform.gateway_addr}", consume),
            )
            for mode, consume in (
                (f"`receive_batch` and `ack_all` of {IN_FLIGHT}", in_batches),
                ("`async for` and `ack`", one_by_one),
            )
        ]


@contextlib.contextmanager
def redis_peer(directory: Path) -> Iterator[list[Peer]]:
    """Run Redis."""
    server, port = program("redis-server"), free_port()
    words = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    words += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    told = subprocess.run([server, "--version"], capture_output=True, text=True, check=True)
    version = told.stdout.split()[2].removeprefix("v=")
    with running(words, port, {}, directory / "redis.log"):
        yield [
            Peer(
                f"Redis {version} stream, redis-py, pipelines, reads and acks of {IN_FLIGHT}",
                "synced to disk when it is answered (`appendfsync always`)",
                lambda: redis_figures(port),
            )
        ]


@contextlib.contextmanager
def rabbitmq_peer(directory: Path) -> Iterator[list[Peer]]:
    """Run RabbitMQ."""
    server, port = program("rabbitmq-server"), free_port()
    environment = {
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "HOME": str(directory),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(free_port()),
    }
    words = ["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    try:
        with running([server], port, environment, directory / "rabbitmq.log"):
            time.sleep(2.0)  # the port answers a little before the node does
            yield [
                Peer(
                    f"RabbitMQ {told.partition('-')[0]} quorum queue, confirms, aio-pika,"
                    f" {IN_FLIGHT} in flight, acks of {IN_FLIGHT // 2}",
                    "synced to disk when it is confirmed (one replica)",
                    lambda: rabbitmq_figures(port),
                )
            ]
    finally:
        # Erlang's port mapper, which the node started on its own port, outlives it.
        epmd = [shutil.which("epmd") or "epmd", "-kill"]
        subprocess.run(epmd, env={**os.environ, **environment}, check=False, stdout=subprocess.DEVNULL)


async def in_turn(peers: list[Peer]) -> list[list[dict[str, float]]]:
    """Return the figures of each peer, round by round: all of them meet whatever else this machine does."""
    return [[await peer.measure() for peer in peers] for _ in range(ROUNDS)]


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return each figure's median."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def main() -> int:
    """Measure what is here in turn, print it, and keep it for the page."""
    peers: list[Peer] = []
    with tempfile.TemporaryDirectory(prefix="danube-peers-") as name, contextlib.ExitStack() as stack:
        for number, peer in enumerate((danube_peer, redis_peer, rabbitmq_peer)):
            directory = Path(name) / str(number)
            directory.mkdir()
            try:
                peers += stack.enter_context(peer(directory))
            except Missing as error:
                print(f"NOT MEASURED: {error}")
        rounds = asyncio.run(in_turn(peers))
    found = [
        {"name": peer.name, "durability": peer.durability, **medians([one[number] for one in rounds])}
        for number, peer in enumerate(peers)
    ]
    REPORTS.mkdir(exist_ok=True)
    report = {"peers": found}
    PEERS.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{peers_table(report)}\nwritten to {PEERS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
