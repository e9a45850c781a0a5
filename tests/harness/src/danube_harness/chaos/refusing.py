"""The failure policy of subscriptions whose readers fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc

from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.traffic.clients import DEAD_LETTERS, Subscription
from danube_harness.traffic.unwilling import REDELIVERIES_MAX
from danube_proto import danube_admin_pb2 as admin

SUBSCRIBED_S_MAX = 30.0
POLICY = admin.SubscriptionFailurePolicy(
    max_redelivery_count=REDELIVERIES_MAX,
    ack_timeout_ms=3000,
    base_redelivery_delay_ms=200,
    max_redelivery_delay_ms=500,
    poison_policy=admin.DeadLetter,
    dead_letter_topic=DEAD_LETTERS,
)


async def refuse(admin_addrs: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
    """Give failing readers' subscriptions their policy, as soon as they exist."""
    async with asyncio.timeout(SUBSCRIBED_S_MAX):
        for one in subscriptions:
            while one.reading.failing and not await _set(admin_addrs, one):
                await one.until_changed()  # its readers subscribe meanwhile


async def _set(admin_addrs: Sequence[str], one: Subscription) -> bool:
    request = admin.SetSubscriptionFailurePolicyRequest(
        topic=one.topic.name, subscription=one.reading.name, failure_policy=POLICY
    )
    method = "/danube_admin.TopicAdmin/SetSubscriptionFailurePolicy"
    try:
        await ask_admin(admin_addrs, method, request, admin.SubscriptionResponse)
    except grpc.aio.AioRpcError:
        return False
    return True
