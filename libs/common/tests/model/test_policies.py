from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.cluster.records import (
    Assignment,
    Claim,
    Instance,
    Layout,
    Namespace,
    Topic,
    decode_record,
    encode_record,
)
from danube_common.errors import CorruptData, InvalidInput
from danube_common.model.policies import (
    MESSAGE_BYTES_CEILING,
    POLICY_MAX,
    Policies,
    PolicyOverrides,
    check_overrides,
)
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy

FIELDS = PolicyOverrides.__struct_fields__
VALUES = st.integers(0, POLICY_MAX)
OVERRIDES = st.builds(PolicyOverrides, **{field: st.none() | VALUES for field in FIELDS})
POLICIES = st.builds(Policies, **dict.fromkeys(FIELDS, VALUES))
TEXTS = st.text(max_size=10)
STRATEGIES = st.builds(
    Strategy,
    st.none()
    | st.builds(
        ReliableOptions,
        VALUES,
        st.sampled_from(StorageBackend),
        TEXTS,
        st.sampled_from(Retention),
        VALUES,
    ),
)
RECORDS = st.one_of(
    st.builds(Layout, VALUES, VALUES),
    st.builds(Instance, TEXTS, TEXTS, TEXTS, TEXTS, VALUES, st.lists(TEXTS).map(tuple)),
    st.builds(Assignment, TEXTS),
    st.builds(Claim, TEXTS, TEXTS),
    st.builds(Namespace, TEXTS, OVERRIDES),
    st.builds(
        Topic,
        name=TEXTS,
        topic_id=VALUES,
        bundle=TEXTS,
        schema=st.builds(Schema, TEXTS, st.sampled_from(SchemaKind), TEXTS),
        strategy=STRATEGIES,
        log_floor=VALUES,
        created_ms=VALUES,
    ),
    OVERRIDES,
    POLICIES,
)


@given(RECORDS)
def test_a_record_is_read_as_it_was_kept(record: msgspec.Struct) -> None:
    assert decode_record(type(record), encode_record(record)) == record


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"instance_id": 7}', b'{"instance_id": "a\xff"}', b'{"x":' + b"[" * 99_999]
)
def test_what_is_no_record_is_corrupt_data(data: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_record(Assignment, data)


@given(POLICIES, OVERRIDES, OVERRIDES)
def test_the_nearest_level_that_sets_a_policy_holds(
    broker: Policies, namespace: PolicyOverrides, topic: PolicyOverrides
) -> None:
    in_force = broker.overridden_by(namespace, topic)
    for field in FIELDS:
        chain = (getattr(topic, field), getattr(namespace, field), getattr(broker, field))
        assert getattr(in_force, field) == next(value for value in chain if value is not None)


@given(POLICIES, OVERRIDES, OVERRIDES)
def test_changes_laid_over_a_level_are_as_two_levels(
    broker: Policies, below: PolicyOverrides, changes: PolicyOverrides
) -> None:
    assert broker.overridden_by(changes.over(below)) == broker.overridden_by(below, changes)


@given(POLICIES)
def test_no_policy_lets_more_pass_than_the_bus_carries(policies: Policies) -> None:
    bound = policies.message_bytes_max
    assert 0 < bound <= MESSAGE_BYTES_CEILING
    if 0 < policies.max_message_size <= MESSAGE_BYTES_CEILING:
        assert bound == policies.max_message_size


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [-1, POLICY_MAX + 1])
def test_a_policy_out_of_range_is_refused(field: str, value: int) -> None:
    with pytest.raises(InvalidInput, match=field):
        check_overrides(PolicyOverrides(**{field: value}))


def test_a_message_size_over_the_ceiling_is_refused() -> None:
    check_overrides(PolicyOverrides(max_message_size=MESSAGE_BYTES_CEILING))
    with pytest.raises(InvalidInput, match="ceiling"):
        check_overrides(PolicyOverrides(max_message_size=MESSAGE_BYTES_CEILING + 1))


@given(STRATEGIES, STRATEGIES)
def test_strategies_fit_when_only_where_they_store_differs(one: Strategy, other: Strategy) -> None:
    def contract(strategy: Strategy) -> object:
        kept = strategy.reliable
        return (kept.segment_size_mb, kept.retention, kept.retention_period_s) if kept else None

    assert (one.differs_from(other) is None) is (contract(one) == contract(other))
