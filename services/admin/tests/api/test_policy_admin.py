from __future__ import annotations

import json

import pytest
from google.protobuf.message import Message
from services.admin.tests.api.admin_port import POLICY, Admin, error_message

from danube_common.model.policies import MESSAGE_BYTES_CEILING
from danube_common.rpc.port import StatusCode
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto.danube_api_pb2 import (
    INVALID_TOPIC_NAME,
    TOPIC_NOT_FOUND,
    UNKNOWN_ERROR,
)


async def test_a_topics_policies_stand_over_its_namespaces(admin: Admin) -> None:
    await admin.create_topic("/default/a")
    await admin.call(
        f"{POLICY}/SetNamespacePolicies",
        platform_pb.SetNamespacePoliciesRequest(
            namespace="default", policies=platform_pb.Policies(max_publish_rate=5, max_dispatch_rate=6)
        ),
        platform_pb.PoliciesResponse,
    )
    answer = await admin.call(
        f"{POLICY}/SetTopicPolicies",
        platform_pb.SetTopicPoliciesRequest(
            topic="/default/a", policies=platform_pb.Policies(max_publish_rate=0)
        ),
        platform_pb.PoliciesResponse,
    )
    read = await admin.call(
        f"{POLICY}/GetTopicPolicies",
        platform_pb.GetTopicPoliciesRequest(topic="/default/a"),
        platform_pb.PoliciesResponse,
    )
    assert answer == read
    in_force = json.loads(read.policies)
    assert (in_force["max_publish_rate"], in_force["max_dispatch_rate"]) == (0, 6)


async def test_a_bound_on_what_is_kept_is_told_to_those_who_can_set_it(admin: Admin) -> None:
    """Peers of the v0.2 contract know eight policies."""
    kept = platform_pb.Policies(max_retained_mb=7)
    answers = [
        await admin.call(f"{POLICY}/{method}", request, platform_pb.PoliciesResponse)
        for method, request in (
            (
                "SetNamespacePolicies",
                platform_pb.SetNamespacePoliciesRequest(namespace="default", policies=kept),
            ),
            ("GetNamespacePolicies", platform_pb.GetNamespacePoliciesRequest(namespace="default")),
        )
    ]
    assert [json.loads(answer.policies)["max_retained_mb"] for answer in answers] == [7, 7]


async def test_a_policy_that_is_not_named_stays_until_it_is_cleared(admin: Admin) -> None:
    async def change(policies: platform_pb.Policies, *, clear: bool = False) -> tuple[int, int]:
        answer = await admin.call(
            f"{POLICY}/SetNamespacePolicies",
            platform_pb.SetNamespacePoliciesRequest(namespace="default", policies=policies, clear=clear),
            platform_pb.PoliciesResponse,
        )
        in_force = json.loads(answer.policies)
        return in_force["max_publish_rate"], in_force["max_dispatch_rate"]

    assert await change(platform_pb.Policies(max_publish_rate=5)) == (5, 0)
    assert await change(platform_pb.Policies(max_dispatch_rate=6)) == (5, 6)
    assert await change(platform_pb.Policies(max_dispatch_rate=7), clear=True) == (0, 7)
    assert await change(platform_pb.Policies(), clear=True) == (0, 0)


TOO_LARGE = platform_pb.Policies(max_message_size=MESSAGE_BYTES_CEILING + 1)


@pytest.mark.parametrize(
    ("method", "request_", "code", "error_type"),
    [
        (
            "SetNamespacePolicies",
            platform_pb.SetNamespacePoliciesRequest(namespace="default", policies=TOO_LARGE),
            StatusCode.INVALID_ARGUMENT,
            UNKNOWN_ERROR,
        ),
        (
            "SetNamespacePolicies",
            platform_pb.SetNamespacePoliciesRequest(namespace="nowhere"),
            StatusCode.NOT_FOUND,
            UNKNOWN_ERROR,
        ),
        (
            "SetNamespacePolicies",
            platform_pb.SetNamespacePoliciesRequest(namespace="a b"),
            StatusCode.INVALID_ARGUMENT,
            UNKNOWN_ERROR,
        ),
        (
            "GetNamespacePolicies",
            platform_pb.GetNamespacePoliciesRequest(namespace="nowhere"),
            StatusCode.NOT_FOUND,
            UNKNOWN_ERROR,
        ),
        (
            "SetTopicPolicies",
            platform_pb.SetTopicPoliciesRequest(topic="/default/a", policies=TOO_LARGE),
            StatusCode.INVALID_ARGUMENT,
            UNKNOWN_ERROR,
        ),
        (
            "SetTopicPolicies",
            platform_pb.SetTopicPoliciesRequest(topic="/default/b"),
            StatusCode.NOT_FOUND,
            TOPIC_NOT_FOUND,
        ),
        (
            "GetTopicPolicies",
            platform_pb.GetTopicPoliciesRequest(topic="b"),
            StatusCode.INVALID_ARGUMENT,
            INVALID_TOPIC_NAME,
        ),
    ],
)
async def test_a_wrong_policy_is_refused_with_the_status_that_says_what_it_is(
    admin: Admin, method: str, request_: Message, code: StatusCode, error_type: int
) -> None:
    await admin.create_topic("/default/a")
    status = await admin.refused(f"{POLICY}/{method}", request_)
    assert status.code is code
    assert error_message(status).error_type == error_type
