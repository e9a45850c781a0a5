"""The metadata store away for longer than any lease, and everything away at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from danube_client import CallError, Schema, SubscriptionType, connect
from danube_client.connection import Connection
from danube_common.cluster.membership import INSTANCE_TTL_S
from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.platforms.cluster import ClusterPlatform
from danube_harness.traffic.load import DISK, TOPICS, Load
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_platform_pb2 as platform_pb
from danube_standalone.programs import readiness

COUNTS = {"admin": 2, "topic-owner": 2, "gateway": 2}
DOOR = "/default/door"
OUTAGE_S = 3 * INSTANCE_TTL_S
LONG_OUTAGE_S = 300.0
CALL_TIMEOUT_S = 20.0
SERVED_S_MAX = 30.0
ACKS_JOURNALED_S = 1.0
"""Acknowledgements are journaled 100 ms after they were answered; only then no crash repeats them."""
POLICY_ADMIN = "/danube_platform.PolicyAdmin"
RETURN_S = 6.0
"""After its return: what would shuffle bundles has had its time."""

Act = Callable[[ClusterPlatform], Awaitable[None]]


async def pause(platform: ClusterPlatform) -> None:
    platform.etcd.pause()


async def resume(platform: ClusterPlatform) -> None:
    platform.etcd.resume()


async def kill(platform: ClusterPlatform) -> None:
    await platform.etcd.kill()


async def restart(platform: ClusterPlatform) -> None:
    await platform.etcd.start()


async def newcomers_are_served(platform: ClusterPlatform) -> None:
    """A producer and a consumer that nobody knew before, on a topic that exists."""
    async with (
        connect(*platform.gateway_urls) as client,
        client.consumer(DOOR, "s", name="late", type=SubscriptionType.EXCLUSIVE) as consumer,
        client.producer(DOOR, name="newcomer") as producer,
    ):
        await producer.send("from a newcomer")
        assert (await anext(consumer)).text == "from a newcomer"


async def every_bundle_is_served(platform: ClusterPlatform) -> None:
    """An owner that has just claimed a bundle takes over its journal before it serves."""
    async with asyncio.timeout(SERVED_S_MAX):
        for owner in platform.of_kind("topic-owner"):
            while await readiness(owner.http_url) is not None:  # noqa: ASYNC110 - readiness has no event
                await asyncio.sleep(0.1)


async def outage(platform: ClusterPlatform, load: Load, begin: Act, end: Act, lasts_s: float) -> None:
    """Everything flows to the end of it, and nothing has moved after it."""
    await load.until_flowing()
    epochs = await platform.until_settled()
    await every_bundle_is_served(platform)
    began = time.monotonic()
    await begin(platform)
    await asyncio.sleep(lasts_s)
    await load.until_flowing()
    during = load.silence(began, time.monotonic())
    await end(platform)
    await asyncio.sleep(RETURN_S)
    await load.until_flowing()
    print(
        f"no metadata for {lasts_s:.0f} s: {during}; with its return {load.silence(began, time.monotonic())}"
    )
    assert during.delivery_s < lasts_s / 2, "deliveries stood still"
    assert await platform.until_settled() == epochs, "bundles changed their owners"


@pytest.mark.timeout(300)
@pytest.mark.acceptance
async def test_an_outage_of_the_metadata_store_stops_nothing_that_is_owned(tmp_path: Path) -> None:
    async with ClusterPlatform.run(tmp_path, COUNTS) as platform:
        async with connect(*platform.gateway_urls) as client:
            await (await client.producer(DOOR, name="first", schema=Schema.string(), strategy=DISK)).close()
        async with Load.run(platform.gateway_urls, TOPICS[:2]) as load:

            async def come_and_resume(platform: ClusterPlatform) -> None:
                await newcomers_are_served(platform)
                for service in (*platform.of_kind("gateway"), *platform.of_kind("topic-owner")):
                    assert await readiness(service.http_url) is None, "no balancer may take it out"
                await resume(platform)

            await outage(platform, load, pause, come_and_resume, OUTAGE_S)
            # What returned is whole: an owner that dies now is replaced.
            await platform["topic-owner-1"].kill()
            await asyncio.sleep(INSTANCE_TTL_S)
            await load.until_flowing()
            await load.finish()
            print(load.text())
            load.check()


@pytest.mark.acceptance
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("begin", "end"), [(pause, resume), (kill, restart)], ids=["paused", "killed"])
async def test_five_minutes_without_the_metadata_store_stop_nothing_that_is_owned(
    tmp_path: Path, begin: Act, end: Act
) -> None:
    async with ClusterPlatform.run(tmp_path, COUNTS) as platform, Load.run(platform.gateway_urls) as load:
        await outage(platform, load, begin, end, LONG_OUTAGE_S)
        await load.finish()
        print(load.text())
        load.check()


async def identities(platform: ClusterPlatform) -> tuple[int, int]:
    """What two clients of a fixed name are known by."""
    connection = Connection(platform.gateway_urls[-1], CALL_TIMEOUT_S)
    try:
        producer = await connection.create_producer(
            api.ProducerRequest(
                producer_name="till", topic_name=DOOR, producer_access_mode=api.ProducerAccessMode.Shared
            )
        )
        consumer = await connection.subscribe(
            api.ConsumerRequest(
                topic_name=DOOR,
                consumer_name="clerk",
                subscription="other",
                subscription_type=api.ConsumerRequest.SubscriptionType.Shared,
            )
        )
        return producer.producer_id, consumer.consumer_id
    finally:
        await connection.close()


async def policies_of(platform: ClusterPlatform, topic: str) -> str:
    answer = await ask_admin(
        platform.admin_addrs,
        f"{POLICY_ADMIN}/GetTopicPolicies",
        platform_pb.GetTopicPoliciesRequest(topic=topic),
        platform_pb.PoliciesResponse,
    )
    return answer.policies


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_a_cluster_that_lost_its_power_brings_topics_cursors_ids_and_policies_back(
    tmp_path: Path,
) -> None:
    async with ClusterPlatform.run(tmp_path, COUNTS) as platform:
        await ask_admin(
            platform.admin_addrs,
            "/danube_admin.NamespaceAdmin/CreateNamespace",
            pb.NamespaceRequest(name="shop"),
            pb.NamespaceResponse,
        )
        async with (
            connect(*platform.gateway_urls) as client,
            client.producer(DOOR, name="till", schema=Schema.string(), strategy=DISK) as producer,
            client.consumer(DOOR, "s", name="clerk", type=SubscriptionType.EXCLUSIVE) as consumer,
        ):
            for number in range(10):
                await producer.send(f"{number}")
            # Every second one of the first eight: a cursor with holes.
            for number in range(10):
                message = await anext(consumer)
                assert message.text == f"{number}"
                if number % 2 == 0 and number < 8:
                    await message.ack()
        await ask_admin(
            platform.admin_addrs,
            f"{POLICY_ADMIN}/SetTopicPolicies",
            platform_pb.SetTopicPoliciesRequest(
                topic=DOOR, policies=platform_pb.Policies(max_message_size=50)
            ),
            platform_pb.PoliciesResponse,
        )
        ids, policies = await identities(platform), await policies_of(platform, DOOR)
        await asyncio.sleep(ACKS_JOURNALED_S)

        await platform.kill_all()
        began = time.monotonic()
        await platform.start_all()
        await platform.until_settled()
        print(f"everything was killed, and is ready again after {time.monotonic() - began:.1f} s")

        assert await identities(platform) == ids
        assert await policies_of(platform, DOOR) == policies
        spaces = await ask_admin(
            platform.admin_addrs,
            "/danube_admin.BrokerAdmin/ListNamespaces",
            pb.Empty(),
            pb.NamespaceListResponse,
        )
        assert set(spaces.namespaces) == {"default", "system", "shop"}
        async with connect(*platform.gateway_urls) as client:
            async with client.consumer(DOOR, "s", name="clerk", type=SubscriptionType.EXCLUSIVE) as consumer:
                again = [(await anext(consumer)).text for _ in range(6)]
                assert again == ["1", "3", "5", "7", "8", "9"]
            async with client.producer(DOOR, name="till") as producer:
                with pytest.raises(CallError, match="max_message_size"):
                    await producer.send("x" * 51)
                await producer.send("open again")
