from __future__ import annotations

import json
from typing import Any

import pytest

from danube_proto import danube_admin_pb2 as wire

SET = "/danube_admin.TopicAdmin/SetSubscriptionFailurePolicy"
GET = "/danube_admin.TopicAdmin/GetSubscriptionFailurePolicy"
POLICY = wire.SubscriptionFailurePolicy(
    max_redelivery_count=5,
    ack_timeout_ms=30_000,
    base_redelivery_delay_ms=1_000,
    max_redelivery_delay_ms=60_000,
    backoff_strategy=wire.Exponential,
    dead_letter_topic="/default/dead",
    poison_policy=wire.Block,
)


@pytest.fixture
def answering(service: Any) -> Any:
    service.answers[GET] = wire.GetSubscriptionFailurePolicyResponse(failure_policy=POLICY)
    service.answers[SET] = wire.SubscriptionResponse(success=True)
    return service


def test_a_policy_is_shown_with_the_fields_of_the_contract(answering: Any, cli: Any) -> None:
    ended = cli("topics", "get-failure-policy", "/default/t", "-s", "s", "-o", "json")
    assert json.loads(ended.out) == {
        "topic": "/default/t",
        "subscription": "s",
        "max_redelivery_count": 5,
        "ack_timeout_ms": 30_000,
        "base_redelivery_delay_ms": 1_000,
        "max_redelivery_delay_ms": 60_000,
        "backoff_strategy": "exponential",
        "dead_letter_topic": "/default/dead",
        "poison_policy": "block",
    }
    assert answering.requests == [(GET, wire.SubscriptionRequest(topic="/default/t", subscription="s"))]
    ended = cli("topics", "get-failure-policy", "/default/t", "-s", "s")
    assert "ack_timeout_ms            30000" in ended.out


def test_what_is_not_given_stays_as_it_is(answering: Any, cli: Any) -> None:
    ended = cli(
        *("topics", "set-failure-policy", "/default/t", "-s", "s", "--ack-timeout-ms", "0"),
        *("--backoff-strategy", "fixed", "--poison-policy", "dead-letter"),
    )
    assert ended.code == 0
    wanted = wire.SubscriptionFailurePolicy()
    wanted.CopyFrom(POLICY)
    wanted.ack_timeout_ms = 0
    wanted.backoff_strategy = wire.Fixed
    wanted.poison_policy = wire.DeadLetter
    assert [request.failure_policy for method, request in answering.requests if method == SET] == [wanted]


def test_a_dead_letter_topic_can_be_taken_away(answering: Any, cli: Any) -> None:
    assert cli("topics", "set-failure-policy", "/default/t", "-s", "s", "--dead-letter-topic", "").code == 0
    (request,) = [request for method, request in answering.requests if method == SET]
    assert not request.failure_policy.HasField("dead_letter_topic")
    assert request.failure_policy.max_redelivery_count == 5


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--poison-policy", "none"),
        ("--ack-timeout-ms", "-1"),
        ("--max-redelivery-count", "x"),
        ("--dead-letter-topic", "no slash"),
    ],
)
def test_bad_input_asks_for_nothing(service: Any, cli: Any, arguments: tuple[str, ...]) -> None:
    assert cli("topics", "set-failure-policy", "/default/t", "-s", "s", *arguments).code == 2
    assert service.requests == []
