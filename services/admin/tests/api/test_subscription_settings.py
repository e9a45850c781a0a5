from __future__ import annotations

import pytest
from services.admin.tests.api.admin_port import PARTITIONS, TOPIC, Admin, error_message

from danube_common.model.failure_policy import BackoffStrategy, FailurePolicy, PoisonPolicy
from danube_common.rpc.port import StatusCode
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto.danube_api_pb2 import SUBSCRIPTION_NOT_FOUND, TOPIC_NOT_FOUND

SET = f"{TOPIC}/SetSubscriptionFailurePolicy"
GET = f"{TOPIC}/GetSubscriptionFailurePolicy"
POLICY = pb.SubscriptionFailurePolicy(
    max_redelivery_count=2,
    ack_timeout_ms=0,
    base_redelivery_delay_ms=10,
    max_redelivery_delay_ms=20,
    backoff_strategy=pb.Fixed,
    dead_letter_topic="/default/dead",
    poison_policy=pb.DeadLetter,
)


def setting(
    policy: pb.SubscriptionFailurePolicy | None = POLICY, topic: str = "/default/t"
) -> pb.SetSubscriptionFailurePolicyRequest:
    return pb.SetSubscriptionFailurePolicyRequest(topic=topic, subscription="s", failure_policy=policy)


async def policy_of(admin: Admin, topic: str = "/default/t") -> pb.GetSubscriptionFailurePolicyResponse:
    request = pb.SubscriptionRequest(topic=topic, subscription="s")
    return await admin.call(GET, request, pb.GetSubscriptionFailurePolicyResponse)


async def test_a_subscription_has_the_default_policy_until_another_one_is_set(admin: Admin) -> None:
    await admin.create_topic("/default/t")
    admin.owner.subscriptions["/default/t"] = ["s"]
    answer = await policy_of(admin)
    assert answer.subscription_type == 1
    assert answer.failure_policy == pb.SubscriptionFailurePolicy(
        max_redelivery_count=5,
        ack_timeout_ms=30_000,
        base_redelivery_delay_ms=1_000,
        max_redelivery_delay_ms=60_000,
        backoff_strategy=pb.Exponential,
        poison_policy=pb.Block,
    )
    assert not answer.failure_policy.HasField("dead_letter_topic")
    assert (await admin.call(SET, setting(), pb.SubscriptionResponse)).success
    assert (await policy_of(admin)).failure_policy == POLICY
    assert admin.owner.failure_policies == {
        ("/default/t", "s"): FailurePolicy(
            2, 0, 10, 20, BackoffStrategy.FIXED, "/default/dead", PoisonPolicy.DEAD_LETTER
        )
    }


async def test_a_partitioned_topic_has_one_policy(admin: Admin) -> None:
    request = platform_pb.CreatePartitionsRequest(topic="/default/p", partitions=3, schema_type="bytes")
    await admin.call(PARTITIONS, request, platform_pb.CreatePartitionsResponse)
    parts = [f"/default/p-part-{number}" for number in range(3)]
    for part in parts:
        admin.owner.subscriptions[part] = ["s"]
    await admin.call(SET, setting(topic="/default/p"), pb.SubscriptionResponse)
    assert {topic for topic, _ in admin.owner.failure_policies} == set(parts)
    assert (await policy_of(admin, "/default/p")).failure_policy == POLICY


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dead_letter_topic": ""}, "needs a dead_letter_topic"),
        ({"dead_letter_topic": "/default/t"}, "its dead letters"),
        ({"base_redelivery_delay_ms": 21}, "is over"),
        ({"ack_timeout_ms": 1 << 40}, "ack_timeout_ms"),
        ({"backoff_strategy": 7}, "7"),
        ({"poison_policy": 7}, "7"),
    ],
)
async def test_a_policy_that_cannot_be_kept_is_refused(
    admin: Admin, changes: dict[str, object], why: str
) -> None:
    await admin.create_topic("/default/t")
    admin.owner.subscriptions["/default/t"] = ["s"]
    policy = pb.SubscriptionFailurePolicy()
    policy.CopyFrom(POLICY)
    for field, value in changes.items():
        setattr(policy, field, value)
    status = await admin.refused(SET, setting(policy))
    assert status.code is StatusCode.INVALID_ARGUMENT
    assert why in status.message
    assert not admin.owner.failure_policies


async def test_what_is_unknown_or_missing_is_told(admin: Admin) -> None:
    await admin.create_topic("/default/t")
    assert (await admin.refused(SET, setting(None))).code is StatusCode.INVALID_ARGUMENT
    unknown = pb.SubscriptionRequest(topic="/default/t", subscription="s")
    for status in (await admin.refused(SET, setting()), await admin.refused(GET, unknown)):
        assert (status.code, error_message(status).error_type) == (
            StatusCode.NOT_FOUND,
            SUBSCRIPTION_NOT_FOUND,
        )
    status = await admin.refused(SET, setting(topic="/default/none"))
    assert (status.code, error_message(status).error_type) == (StatusCode.NOT_FOUND, TOPIC_NOT_FOUND)
