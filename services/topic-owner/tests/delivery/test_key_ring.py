from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danube_common.errors import InvalidInput
from danube_common.model.subscription import (
    KEY_FILTER_CHARACTERS_MAX,
    KEY_FILTERS_MAX,
    SubscriptionType,
    check_key_filters,
    key_matches,
)
from danube_proto import danube_api_pb2 as api
from danube_topic_owner.delivery.key_ring import (
    BYTES_AT_ONCE,
    KEY_BYTES_MAX,
    MESSAGES_AT_ONCE,
    KeyRing,
    hash_of,
    key_of,
    keys_of,
)

CONSUMERS = st.lists(st.integers(1, 1 << 63), min_size=1, max_size=5, unique=True)
KEYS = [f"key-{number}".encode() for number in range(300)]


def test_the_hash_is_folded_fnv_with_the_finalizer_of_murmur3() -> None:
    folded = 0xCBF29CE4 ^ 0x84222325
    folded ^= folded >> 16
    folded = folded * 0x85EBCA6B % (1 << 32)
    folded ^= folded >> 13
    folded = folded * 0xC2B2AE35 % (1 << 32)
    assert hash_of(b"") == folded ^ folded >> 16


@settings(max_examples=20)
@given(CONSUMERS)
def test_a_key_goes_to_the_first_node_clockwise(ids: list[int]) -> None:
    ring = KeyRing((each, ()) for each in ids)
    nodes = sorted((hash_of(f"{each}-{node}".encode()), each) for each in ids for node in range(100))
    for key in KEYS[:50]:
        place = hash_of(key)
        assert ring.consumer_of(key) == next((each for at, each in nodes if at >= place), nodes[0][1])


@settings(max_examples=20)
@given(CONSUMERS, st.integers(1, 1 << 63))
def test_a_consumer_that_joins_takes_only_its_own_keys(ids: list[int], new: int) -> None:
    before = KeyRing((each, ()) for each in ids)
    after = KeyRing((each, ()) for each in {*ids, new})
    assert all(after.consumer_of(key) in (before.consumer_of(key), new) for key in KEYS)


def test_every_consumer_gets_a_share() -> None:
    ring = KeyRing((each, ()) for each in range(1, 5))
    assert {ring.consumer_of(key) for key in KEYS} == {1, 2, 3, 4}


def test_consumers_with_a_matching_filter_come_first_and_those_without_filters_get_the_rest() -> None:
    ring = KeyRing([(1, ("eu-*", "us-?")), (2, ("us-*",)), (3, ())])
    assert ring.consumer_of(b"eu-1") == 1
    assert ring.consumer_of(b"us-10") == 2
    assert {ring.consumer_of(f"us-{number}".encode()) for number in range(10)} == {1, 2}
    assert ring.consumer_of(b"asia") == 3
    assert KeyRing([(1, ("eu-*",))]).consumer_of(b"asia") is None
    assert KeyRing([]).consumer_of(b"asia") is None


@given(st.text("ab*?", max_size=8), st.text("abc", max_size=8))
def test_a_glob_matches_like_a_regular_expression(glob: str, key: str) -> None:
    pattern = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in glob)
    assert key_matches(glob, key) is bool(re.fullmatch(pattern, key, re.DOTALL))


@pytest.mark.parametrize(
    ("kind", "filters"),
    [
        (SubscriptionType.SHARED, ["a"]),
        (SubscriptionType.KEY_SHARED, ["a"] * (KEY_FILTERS_MAX + 1)),
        (SubscriptionType.KEY_SHARED, ["a" * (KEY_FILTER_CHARACTERS_MAX + 1)]),
        (SubscriptionType.KEY_SHARED, [""]),
    ],
)
def test_key_filters_are_bounded_and_for_key_shared_only(kind: SubscriptionType, filters: list[str]) -> None:
    with pytest.raises(InvalidInput):
        check_key_filters(kind, filters)


def test_the_key_is_the_routing_key_or_else_the_producers_name() -> None:
    message = api.StreamMessage(
        request_id=1 << 40,
        msg_id=api.MsgID(producer_id=1 << 60, topic_name="/default/t"),
        payload=b"*" * 300,
        publish_time=1 << 40,
        producer_name="anna",
        attributes={"a": "b"},
        schema_id=7,
    )
    assert key_of(message.SerializeToString()) == b"anna"
    message.routing_key = ""
    assert key_of(message.SerializeToString()) == b"anna"
    message.routing_key = "ключ"
    assert key_of(message.SerializeToString()) == "ключ".encode()
    message.routing_key = "k" * (KEY_BYTES_MAX + 5)
    assert key_of(message.SerializeToString()) == b"k" * KEY_BYTES_MAX


@given(st.binary(max_size=40))
def test_any_bytes_have_a_key(data: bytes) -> None:
    assert len(key_of(data)) <= KEY_BYTES_MAX


STREAM_MESSAGES = st.builds(
    api.StreamMessage,
    payload=st.binary(max_size=200),
    producer_name=st.sampled_from(["", "anna"]),
    routing_key=st.sampled_from(["", "red", "k" * (KEY_BYTES_MAX + 1)]),
).map(api.StreamMessage.SerializeToString)


@given(st.lists(STREAM_MESSAGES | st.binary(max_size=40), max_size=150))
def test_many_messages_have_the_keys_that_each_of_them_has(messages: list[bytes]) -> None:
    assert keys_of(messages) == [key_of(message) for message in messages]


def test_one_broken_message_leaves_the_keys_of_the_others() -> None:
    messages = [api.StreamMessage(routing_key=f"{n}").SerializeToString() for n in range(150)]
    messages[70] = b"\x52\x7f"
    keys = keys_of(messages)
    assert keys[:70] + keys[71:] == [f"{n}".encode() for n in range(150) if n != 70]


def test_large_messages_among_small_ones_have_their_keys() -> None:
    sizes = [1, BYTES_AT_ONCE, *[1] * MESSAGES_AT_ONCE]
    messages = [
        api.StreamMessage(payload=bytes(size), routing_key=f"{n}").SerializeToString()
        for n, size in enumerate(sizes)
    ]
    assert keys_of(messages) == [f"{n}".encode() for n in range(len(sizes))]
