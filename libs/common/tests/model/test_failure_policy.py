from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import InvalidInput
from danube_common.model.failure_policy import (
    ACK_TIMEOUT_MAX_MS,
    REDELIVERY_DELAY_MAX_MS,
    BackoffStrategy,
    FailurePolicy,
    PoisonPolicy,
    check_failure_policy,
)


def test_the_defaults_are_those_of_the_contract() -> None:
    policy = FailurePolicy()
    check_failure_policy(policy, "/default/t")
    assert msgspec.structs.asdict(policy) == {
        "max_redelivery_count": 5,
        "ack_timeout_ms": 30_000,
        "base_redelivery_delay_ms": 1_000,
        "max_redelivery_delay_ms": 60_000,
        "backoff_strategy": BackoffStrategy.EXPONENTIAL,
        "dead_letter_topic": "",
        "poison_policy": PoisonPolicy.BLOCK,
    }


def test_what_was_chosen_is_stored_even_if_it_is_the_default() -> None:
    """So that a policy that somebody set stays what it is when defaults change."""
    assert len(msgspec.msgpack.decode(msgspec.msgpack.encode(FailurePolicy()))) == 7


def test_an_exponential_backoff_doubles_up_to_its_bound_and_a_fixed_one_stays() -> None:
    exponential = FailurePolicy(base_redelivery_delay_ms=1000, max_redelivery_delay_ms=5000)
    assert [exponential.delay_ms(n) for n in (1, 2, 3, 4, 5)] == [1000, 2000, 4000, 5000, 5000]
    fixed = msgspec.structs.replace(exponential, backoff_strategy=BackoffStrategy.FIXED)
    assert [fixed.delay_ms(n) for n in (1, 2, 9)] == [1000, 1000, 1000]


def test_a_requested_delay_lengthens_the_wait_up_to_its_bound() -> None:
    policy = FailurePolicy(base_redelivery_delay_ms=1000, max_redelivery_delay_ms=5000)
    assert [policy.delay_ms(1, requested) for requested in (0, 500, 3000, 99_000)] == [
        1000,
        1000,
        3000,
        5000,
    ]


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 64))
def test_a_wait_is_always_within_its_bounds(failures: int, requested_ms: int) -> None:
    policy = FailurePolicy(max_redelivery_delay_ms=REDELIVERY_DELAY_MAX_MS)
    assert policy.base_redelivery_delay_ms <= policy.delay_ms(failures, requested_ms)
    assert policy.delay_ms(failures, requested_ms) <= REDELIVERY_DELAY_MAX_MS


def test_a_message_is_poison_when_more_deliveries_failed_than_redeliveries_are_allowed() -> None:
    policy = FailurePolicy(max_redelivery_count=2)
    assert [policy.is_poison(failures) for failures in (0, 1, 2, 3)] == [False, False, False, True]
    assert FailurePolicy(max_redelivery_count=0).is_poison(1)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (FailurePolicy(max_redelivery_count=-1), "max_redelivery_count"),
        (FailurePolicy(ack_timeout_ms=ACK_TIMEOUT_MAX_MS + 1), "ack_timeout_ms"),
        (FailurePolicy(max_redelivery_delay_ms=REDELIVERY_DELAY_MAX_MS + 1), "max_redelivery_delay_ms"),
        (FailurePolicy(base_redelivery_delay_ms=2, max_redelivery_delay_ms=1), "is over"),
        (FailurePolicy(poison_policy=PoisonPolicy.DEAD_LETTER), "needs a dead_letter_topic"),
        (FailurePolicy(dead_letter_topic="no slash"), "dead_letter_topic"),
        (FailurePolicy(dead_letter_topic="/default/t"), "its dead letters"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(policy: FailurePolicy, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        check_failure_policy(policy, "/default/t")
