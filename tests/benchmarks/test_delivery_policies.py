"""What key-shared subscriptions and failure policies cost, beside shared ones in the same run.

`make bench-policies`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.benchmarks.growth import cpu_s

from danube_client import Reliable, Schema, Storage, SubscriptionType, connect
from danube_client.client import Client
from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as admin

ROUNDS = int(os.environ.get("DANUBE_BENCH_ROUNDS", "5"))
MESSAGES = int(os.environ.get("DANUBE_BENCH_MESSAGES", "40000"))
KEYS = 1000
TOPIC = "/default/keyed"
COSTS = ("topic-owner", "gateway", "nats", "client")

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]


async def test_key_shared_and_the_default_policy_beside_shared_without_a_timeout(tmp_path: Path) -> None:
    rates: dict[str, list[float]] = {"shared": [], "key-shared": [], "shared, no timeout": []}
    costs: dict[str, list[Counter[str]]] = {name: [] for name in rates}
    with Platform.run(tmp_path) as platform:
        async with connect(f"http://{platform.gateway_addr}") as client:
            await publish(client)
            # Nobody acknowledges here, so that every round finds every message.
            await client.create_subscription(TOPIC, "keeper")
            for number in range(-1, ROUNDS):  # the first round warms up
                for name, found in list(rates.items())[:: 1 if number % 2 else -1]:
                    subscription = f"{name.replace(', ', '-').replace(' ', '-')}-{number}"
                    kind = SubscriptionType.KEY_SHARED if name == "key-shared" else SubscriptionType.SHARED
                    async with client.consumer(TOPIC, subscription, name="first", type=kind):
                        pass
                    if "no timeout" in name:
                        await without_timeout(platform, subscription)
                    before, own = cpu_s(platform), time.process_time()
                    rate = await consume(client, subscription, kind)
                    used = cpu_s(platform)
                    used.subtract(before)
                    used["client"] = time.process_time() - own  # type: ignore[assignment]
                    if number >= 0:
                        found.append(rate)
                        costs[name].append(used)
    shared = statistics.median(rates["shared"])
    for name, found in rates.items():
        rate = statistics.median(found)
        rounds = [round(each) for each in found]
        print(f"{name}: {rate:.0f} msg/s, {rate / shared:.2f} of shared, rounds {rounds}")
        cost = {kind: statistics.median(each[kind] for each in costs[name]) for kind in COSTS}
        shown = ", ".join(f"{kind} {seconds / MESSAGES * 1e6:.1f}" for kind, seconds in cost.items())
        print(f"  CPU us a message: {shown}, together {sum(cost.values()) / MESSAGES * 1e6:.1f}")
    served = {name: [each["topic-owner"] + each["gateway"] for each in costs[name]] for name in rates}
    pairs = zip(served["shared"], served["shared, no timeout"], strict=True)
    ratios = sorted(with_policy / without for with_policy, without in pairs)
    print(
        "CPU of owner and gateway, default policy beside none, in turn: "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


async def publish(client: Client) -> None:
    strategy = Reliable(Storage.DISK, segment_size_mib=20)
    async with client.producer(TOPIC, schema=Schema.bytes(), strategy=strategy) as producer:
        for number in range(MESSAGES):
            await producer.post(bytes(1024), key=f"key {number % KEYS}")
        await producer.flush()


async def without_timeout(platform: Platform, subscription: str) -> None:
    policy = admin.SubscriptionFailurePolicy(
        max_redelivery_count=5,
        base_redelivery_delay_ms=1000,
        max_redelivery_delay_ms=60000,
        poison_policy=admin.Block,
    )
    await ask_admin(
        [platform.admin_addr],
        "/danube_admin.TopicAdmin/SetSubscriptionFailurePolicy",
        admin.SetSubscriptionFailurePolicyRequest(
            topic=TOPIC, subscription=subscription, failure_policy=policy
        ),
        admin.SubscriptionResponse,
    )


async def consume(client: Client, subscription: str, kind: SubscriptionType) -> float:
    """Return the rate at which two consumers receive and acknowledge all messages."""
    left = MESSAGES
    done = asyncio.Event()

    async def take(name: str) -> None:
        nonlocal left
        async with client.consumer(TOPIC, subscription, name=name, type=kind) as consumer:
            async for message in consumer:
                await consumer.post_ack(message)
                left -= 1
                if left <= 0:
                    done.set()

    began = time.perf_counter()
    tasks = [asyncio.create_task(take(name)) for name in ("first", "second")]
    await done.wait()
    elapsed = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return MESSAGES / elapsed
