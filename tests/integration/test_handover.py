"""Bundles that change hands under traffic because somebody asks for it, and restarts one after another."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiohttp
import grpc
import pytest
from google.protobuf.message import Message

from danube_client import SubscriptionType, connect
from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.platforms.standalone import Platform
from danube_harness.traffic.clients import longest_gap_s
from danube_harness.traffic.history import Receipt, check
from danube_proto import danube_admin_pb2 as pb

BROKER = "/danube_admin.BrokerAdmin"
TOPIC = "/danube_admin.TopicAdmin"
SEND_INTERVAL_S = 0.01
SETTLE_S = 1.0
"""Traffic before and after each step."""
PATIENCE_S = 60.0
MOVES = 4
HEALTH_INTERVAL_S = 1.0

A = TypeVar("A", bound=Message)


class Traffic:
    """One topic's writer, and the one consumer of its subscription, which acknowledges everything.

    Attributes:
        stored: what the platform said it has.
        refusals: what it said of the others.
        acked_at: when the platform said that it has the acknowledgement of a message.
    """

    def __init__(self, topic: str, in_flight_max: int) -> None:
        self.topic = topic
        self.in_flight_max = in_flight_max
        self.sent = 0
        self.stored: set[int] = set()
        self.refusals: list[str] = []
        self.received: list[Receipt] = []
        self.received_at: list[float] = []
        self.acked_at: dict[int, float] = {}
        self.published_at: list[float] = []
        self._arrived = asyncio.Event()

    async def write(self, urls: list[str], stop: asyncio.Event) -> None:
        async with (
            connect(*urls, health_interval_s=HEALTH_INTERVAL_S) as client,
            client.producer(self.topic, name="writer", in_flight_max=self.in_flight_max) as producer,
        ):
            while not stop.is_set():
                outcome = await producer.post(f"{self.sent}")
                outcome.add_done_callback(partial(self._published, self.sent))
                self.sent += 1
                await asyncio.sleep(SEND_INTERVAL_S)
            await producer.flush()

    async def read(self, urls: list[str], opened: asyncio.Event) -> None:
        async with (
            connect(*urls, health_interval_s=HEALTH_INTERVAL_S) as client,
            client.consumer(self.topic, "s", name="reader", type=SubscriptionType.EXCLUSIVE) as consumer,
        ):
            opened.set()
            async for message in consumer:
                number = int(message.text)
                self.received.append(("writer", number))
                self.received_at.append(time.monotonic())
                self._arrived.set()
                acking = await consumer.post_ack(message)
                acking.add_done_callback(partial(self._acked, number))

    def _published(self, number: int, outcome: asyncio.Future[int]) -> None:
        if outcome.cancelled() or outcome.exception() is not None:
            self.refusals.append(f"{number}: {outcome}")
            return
        self.stored.add(number)
        self.published_at.append(time.monotonic())

    def _acked(self, number: int, done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.acked_at.setdefault(number, time.monotonic())

    async def until_flowing(self) -> None:
        since = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            while not self.received_at or self.received_at[-1] < since:
                await self._next()

    async def until_complete(self) -> None:
        """Until everything that the platform said it has was received."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while missing := self.stored - {number for _, number in self.received}:
                    await self._next()
        except TimeoutError:
            raise AssertionError(f"{self.topic} of {self.sent} misses {sorted(missing)[:20]}") from None

    async def _next(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    def acknowledged_and_again(self, steps_at: list[float]) -> list[int]:
        """Messages that came again although they were acknowledged before the step that brought them back."""
        found = []
        for (_, number), at in zip(self.received, self.received_at, strict=True):
            acked_at = self.acked_at.get(number)
            if acked_at is not None and any(acked_at < step < at for step in steps_at):
                found.append(number)
        return found


class Scene:
    """A platform with traffic on several topics.

    Attributes:
        steps_at: when somebody asked for something to move.
    """

    def __init__(self, platform: Platform, traffics: list[Traffic]) -> None:
        self.platform = platform
        self.traffics = traffics
        self.steps_at: list[float] = []

    @classmethod
    @asynccontextmanager
    async def played(cls, platform: Platform, topics: int) -> AsyncIterator[Scene]:
        """Leaving it ends the writers, waits for everything, and checks it."""
        urls = [f"http://{addr}" for addr in platform.gateway_addrs]
        traffics = [Traffic(f"/default/moving{number}", (1, 100)[number % 2]) for number in range(topics)]
        scene = cls(platform, traffics)
        stop = asyncio.Event()
        readers: list[asyncio.Task[None]] = []
        writers: list[asyncio.Task[None]] = []
        try:
            for number, traffic in enumerate(traffics):
                await scene.ask(f"{TOPIC}/CreateTopic", new_topic(traffic.topic), pb.TopicResponse)
                turned = urls[number % len(urls) :] + urls[: number % len(urls)]
                opened = asyncio.Event()
                readers.append(asyncio.create_task(traffic.read(turned, opened)))
                await asyncio.wait_for(opened.wait(), PATIENCE_S)
                writers.append(asyncio.create_task(traffic.write(turned, stop)))
            await asyncio.gather(*(traffic.until_flowing() for traffic in traffics))
            yield scene
            stop.set()
            await asyncio.gather(*writers)
            await asyncio.gather(*(traffic.until_complete() for traffic in traffics))
            scene.check()
        finally:
            for task in (*writers, *readers):
                task.cancel()
            await asyncio.gather(*writers, *readers, return_exceptions=True)

    def check(self) -> None:
        """Nothing lost, nothing out of order, nothing again that was acknowledged before a step."""
        sent = duplicated = reordered = again = 0
        for traffic in self.traffics:
            assert traffic.refusals == []
            report = check({"writer": range(traffic.sent)}, {"reader": traffic.received})
            assert report.ok, f"{traffic.topic}: {report.text()}"
            # A machine that is slow enough hands calls over in another order than they were made in.
            assert not (report.reordered and traffic.in_flight_max == 1), f"{traffic.topic}: {report.text()}"
            reordered += sum(report.reordered.values())
            sent, duplicated = sent + report.sent, duplicated + report.duplicated
            again += len(traffic.acknowledged_and_again(self.steps_at))
        print(
            f"sent {sent}, lost 0, reordered {reordered},"
            f" read twice {duplicated}, of these acknowledged before {again}"
        )
        assert again == 0

    async def ask(self, method: str, request: Message, answer: type[A]) -> A:
        return await ask_admin([self.platform.admin_addr], method, request, answer)

    async def step(self, name: str, method: str, request: Message, answer: type[A]) -> A:
        """Ask the admin service; print how long it took and how long nothing came meanwhile."""
        began = time.monotonic()
        self.steps_at.append(began)
        response = await self.ask(method, request, answer)
        await self.flowing(name, began)
        return response

    async def flowing(self, name: str, began: float) -> None:
        took_s = time.monotonic() - began
        await asyncio.gather(*(traffic.until_flowing() for traffic in self.traffics))
        await asyncio.sleep(SETTLE_S)
        until = time.monotonic()
        delivery = max(longest_gap_s(t.received_at, began, until) for t in self.traffics)
        publish = max(longest_gap_s(t.published_at, began, until) for t in self.traffics)
        print(
            f"{name}: took {took_s * 1000:.0f} ms; longest silence: publish {publish * 1000:.0f} ms,"
            f" delivery {delivery * 1000:.0f} ms"
        )

    async def states(self) -> dict[str, str]:
        answer = await self.ask(f"{BROKER}/ListBrokers", pb.Empty(), pb.BrokerListResponse)
        return {
            broker.broker_id: broker.broker_status
            for broker in answer.brokers
            if broker.broker_role != "Cluster_Leader"
        }

    async def until_states(self, states: dict[str, str]) -> None:
        """Until an admin instance answers, and says this."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    if await self.states() == states:
                        return
                await asyncio.sleep(0.1)

    async def unloaded(self, broker_id: str, *, dry_run: bool = False) -> pb.UnloadBrokerResponse:
        """What an unload counts; without ``dry_run`` it unloads."""
        request = pb.UnloadBrokerRequest(broker_id=broker_id, timeout_seconds=15, dry_run=dry_run)
        return await self.ask(f"{BROKER}/UnloadBroker", request, pb.UnloadBrokerResponse)

    async def until_served(self, broker_id: str) -> None:
        """Until the broker has bundles."""
        async with asyncio.timeout(PATIENCE_S):
            # Another process's doing has no event here.
            while not (await self.unloaded(broker_id, dry_run=True)).total:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def restarted(platform: Platform, kind: str, before: list[int]) -> None:
    """Until the oldest of ``before`` is replaced and all are ready."""
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as http:
        while len(set(platform.pids(kind)) - {before[0]}) < len(before):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for url in platform.http_urls(kind):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{url}/readyz") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.1)


def new_topic(name: str) -> pb.NewTopicRequest:
    return pb.NewTopicRequest(
        name=name, schema_type="string", dispatch_strategy="reliable:storage=disk,retention=ack"
    )


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform.run(
        tmp_path / "platform", arguments=("--topic-owners", "2", "--gateways", "2", "--gateway-ports", "each")
    ) as running:
        yield running


@pytest.mark.acceptance
@pytest.mark.timeout(240)
async def test_bundles_move_under_traffic_without_loss_and_a_drain_outlives_a_restart(
    platform: Platform,
) -> None:
    async with Scene.played(platform, topics=3) as scene:
        for number in range(MOVES):
            topic = scene.traffics[number % len(scene.traffics)].topic
            moved = await scene.step(
                f"topics unload {topic}",
                f"{TOPIC}/UnloadTopic",
                pb.TopicRequest(name=topic),
                pb.TopicResponse,
            )
            assert moved.success

        first, second = sorted(await scene.states())
        drained = await scene.step(
            "brokers unload",
            f"{BROKER}/UnloadBroker",
            pb.UnloadBrokerRequest(broker_id=first, timeout_seconds=15),
            pb.UnloadBrokerResponse,
        )
        assert drained.total == drained.succeeded > 0
        assert await scene.states() == {first: "drained", second: "active"}
        await asyncio.to_thread(platform.kill, "admin")
        await scene.until_states({first: "drained", second: "active"})
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await scene.unloaded(second)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(grpc.aio.AioRpcError, match="no other active broker"):
            await scene.ask(f"{TOPIC}/UnloadTopic", pb.TopicRequest(name=topic), pb.TopicResponse)

    platform.stop()
    platform.start()  # here and in no other thread, see there

    async with Scene.played(platform, topics=0) as scene:
        await scene.until_served(second)
        assert (await scene.states())[first] in ("draining", "drained")
        await scene.unloaded(first)
        assert await scene.states() == {first: "drained", second: "active"}
        request = pb.ActivateBrokerRequest(broker_id=first)
        await scene.ask(f"{BROKER}/ActivateBroker", request, pb.ActivateBrokerResponse)
        await scene.until_served(first)


@pytest.mark.timeout(240)
async def test_owners_and_gateways_restarted_in_turn_lose_nothing(platform: Platform) -> None:
    async with Scene.played(platform, topics=4) as scene:
        for kind in ("gateway", "topic-owner"):
            for _instance in range(2):
                before = platform.pids(kind)
                began = time.monotonic()
                scene.steps_at.append(began)
                platform.kill(kind, signal.SIGTERM)
                await restarted(platform, kind, before)
                await scene.flowing(f"restart of a {kind}", began)
