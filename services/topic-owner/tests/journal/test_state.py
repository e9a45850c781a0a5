from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import CorruptData
from danube_common.model.failure_policy import FailurePolicy, PoisonPolicy
from danube_common.model.position import BEFORE_ALL
from danube_common.model.producer import AccessMode
from danube_common.model.subscription import SubscriptionType
from danube_topic_owner.journal import events as events_module
from danube_topic_owner.journal.cursor import Range
from danube_topic_owner.journal.events import (
    Claimed,
    ConsumerCreated,
    ConsumerRemoved,
    CursorMoved,
    CursorSet,
    DispatchConfigSet,
    Event,
    FailurePolicySet,
    GenerationReached,
    LogRestarted,
    LogSeen,
    LossesTold,
    MessagesFailed,
    MessagesLost,
    ProducerCreated,
    ProducerRemoved,
    ProducersStored,
    SnapshotTaken,
    SubscriptionCreated,
    SubscriptionRemoved,
    TopicRemoved,
    decode_events,
    encode_events,
    encode_records,
)
from danube_topic_owner.journal.state import BundleState

NUMBERS = st.integers(1, 1 << 60)
TOPICS = st.integers(1, 2)
NAMES = st.sampled_from(["a", "b"])
IDS = st.integers(1, 3)
MODES = st.sampled_from(AccessMode)
KINDS = st.sampled_from(SubscriptionType)
GENERATIONS = st.integers(0, 9)
RANGES = st.builds(lambda first, length: Range(first, first + length, length + 1), NUMBERS, st.integers(0, 9))
ACKED = st.lists(RANGES, max_size=3)


def topic_name(topic_id: int) -> str:
    return f"/default/t{topic_id}"


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Claimed, NUMBERS, NAMES),
    TOPICS.flatmap(
        lambda t: st.builds(
            ProducerCreated, *map(st.just, (t, topic_name(t))), IDS.map(lambda i: 10 * t + i), NAMES, MODES
        )
    ),
    st.builds(ProducerRemoved, st.integers(11, 36)),
    TOPICS.flatmap(
        lambda t: st.builds(
            SubscriptionCreated,
            *map(st.just, (t, topic_name(t))),
            *(NAMES, KINDS, NUMBERS, st.integers(0, 5), GENERATIONS),
        )
    ),
    st.builds(SubscriptionRemoved, TOPICS, NAMES),
    st.builds(lambda t, s, i: ConsumerCreated(t, s, 100 * t + 10 * ord(s) + i, f"c{i}"), TOPICS, NAMES, IDS),
    st.builds(lambda t, s, i: ConsumerRemoved(100 * t + 10 * ord(s) + i), TOPICS, NAMES, IDS),
    st.builds(CursorMoved, TOPICS, NAMES, NUMBERS, ACKED),
    st.builds(MessagesLost, TOPICS, NAMES, NUMBERS),
    st.builds(LossesTold, TOPICS, NAMES, NUMBERS),
    st.builds(
        FailurePolicySet,
        *(TOPICS, NAMES, st.builds(FailurePolicy, poison_policy=st.sampled_from(PoisonPolicy))),
    ),
    st.builds(DispatchConfigSet, TOPICS, NAMES, NUMBERS),
    st.builds(MessagesFailed, TOPICS, NAMES, st.lists(st.tuples(NUMBERS, st.integers(1, 9)), max_size=3)),
    st.builds(
        CursorSet,
        *(TOPICS, NAMES, NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=1)),
        st.none() | GENERATIONS,
    ),
    TOPICS.flatmap(lambda t: st.builds(GenerationReached, *map(st.just, (t, topic_name(t))), GENERATIONS)),
    st.builds(TopicRemoved, TOPICS),
    st.builds(LogRestarted, NUMBERS),
    st.builds(LogSeen, NUMBERS, NAMES),
)
HISTORIES = st.lists(EVENTS, max_size=10) | st.lists(EVENTS, min_size=15, max_size=40)


def folded(*histories: list[Event]) -> BundleState:
    state = BundleState()
    for history in histories:
        state.fold(decode_events(encode_events(history)))
    return state


def seen(state: BundleState) -> Any:
    """All that a state says, topics of which nothing is known left out."""
    known = state.topics.items()
    topics = {i: topic for i, topic in known if topic.producers or topic.subscriptions or topic.generation}
    return state.epoch, state.log_seen, state.log_restarted_ms, topics


@given(HISTORIES)
def test_a_record_is_read_as_it_was_written(history: list[Event]) -> None:
    assert decode_events(encode_events(history)) == history


@given(HISTORIES)
def test_a_snapshot_rebuilds_the_state(history: list[Event]) -> None:
    state = folded(history)
    rebuilt = folded(list(state.snapshot()))
    assert seen(rebuilt) == seen(state)
    for identifier in range(1300):
        for look_up in (BundleState.producer, BundleState.consumer):
            assert look_up(rebuilt, identifier) == look_up(state, identifier)


@given(HISTORIES, HISTORIES, HISTORIES)
def test_a_snapshot_stands_for_all_before_it(
    before: list[Event], other: list[Event], after: list[Event]
) -> None:
    snapshot = list(folded(before).snapshot())
    assert seen(folded(before, after)) == seen(folded(other, snapshot, after))


@given(HISTORIES, HISTORIES, st.data())
def test_a_snapshot_that_was_broken_off_says_nothing(
    before: list[Event], other: list[Event], data: st.DataObject
) -> None:
    part = list(folded(other).snapshot())
    part = part[: data.draw(st.integers(0, len(part) - 1))]
    claimed = Claimed(9, "next")
    assert seen(folded(before, part, [claimed])) == seen(folded(before, [claimed]))
    whole = list(folded(other).snapshot())
    assert seen(folded(before, part, whole)) == seen(folded(whole)), "its owner may begin again"


def test_the_snapshot_of_version_0_1_is_read() -> None:
    created = SubscriptionCreated(1, "/default/t", "s", SubscriptionType.SHARED, 5)
    state = folded([created, SnapshotTaken(3, [created, CursorSet(1, "s", 7, [(9, 11)])])])
    assert state.epoch == 3
    assert state.topics[1].subscriptions["s"].acked == [Range(9, 11, 3)]


def test_what_is_too_long_for_a_record_goes_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "RECORD_BYTES_MAX", 100)
    history: list[Event] = [ConsumerCreated(1, "s", number, "c") for number in range(50)]
    records = encode_records(history)
    assert [event for record in records for event in decode_events(record)] == history
    assert len(records) > 10
    assert max(map(len, records)) <= 100
    assert encode_records([]) == [encode_events([])]


@given(HISTORIES)
def test_repeating_the_last_event_changes_nothing(history: list[Event]) -> None:
    state = folded(history)
    assert seen(folded(history, history[-1:])) == seen(state)


@given(HISTORIES, st.data())
def test_replaying_a_beginning_first_is_harmless(history: list[Event], data: st.DataObject) -> None:
    """A snapshot may hold what is recorded and not yet written: it is written again behind it."""
    sound: list[Event] = []
    made: set[tuple[int, str]] = set()
    for event in history:
        match event:
            case SubscriptionCreated():
                made.add((event.topic_id, event.name))
            case (
                CursorMoved()
                | CursorSet()
                | ConsumerCreated()
                | MessagesLost()
                | LossesTold()
                | MessagesFailed()
                | FailurePolicySet()
                | DispatchConfigSet()
            ) if (
                event.topic_id,
                event.subscription,
            ) not in made:
                continue
            case SubscriptionRemoved() if (event.topic_id, event.name) not in made:
                continue
            case SubscriptionRemoved():
                made.discard((event.topic_id, event.name))
            case TopicRemoved():
                made = {key for key in made if key[0] != event.topic_id}
            case LogRestarted():
                continue
            case _:
                pass
        sound.append(event)
    cut = data.draw(st.integers(0, len(sound)))
    once, again = folded(sound), folded(sound[:cut], sound)
    for topic_id, topic in once.topics.items():
        # The removal of a subscription that was made again is counted once more: it may only grow.
        assert again.topics[topic_id].generation >= topic.generation
        again.topics[topic_id].generation = topic.generation
    assert seen(again) == seen(once)


def test_a_removal_that_is_replayed_after_the_subscription_was_made_again_is_harmless() -> None:
    created = SubscriptionCreated(1, "/default/t", "s", SubscriptionType.SHARED, 5)
    history: list[Event] = [
        created,
        SubscriptionRemoved(1, "s"),
        SubscriptionCreated(1, "/default/t", "s", SubscriptionType.SHARED, 5, generation=1),
    ]
    once, again = folded(history), folded(history, history)
    assert again.topics[1].subscriptions == once.topics[1].subscriptions
    assert again.topics[1].generation > once.topics[1].generation


@given(HISTORIES)
def test_ids_lead_to_what_is_there_and_to_nothing_else(history: list[Event]) -> None:
    state = folded(history)
    for identifier in range(1300):
        found = state.producer(identifier)
        assert (found is not None) is any(identifier in t.producers for t in state.topics.values())
        if found is not None:
            assert found[0].producers[identifier] is found[1]
        held = state.consumer(identifier)
        assert (held is not None) is any(
            identifier in s.consumers for t in state.topics.values() for s in t.subscriptions.values()
        )
        if held is not None:
            assert identifier in held[1].consumers


def test_a_subscription_that_is_created_again_keeps_its_cursor_and_its_consumers() -> None:
    created = SubscriptionCreated(1, "/default/ü", "s", SubscriptionType.SHARED, 5)
    history: list[Event] = [
        created,
        CursorMoved(1, "s", 90, [Range(95, 97, 3)]),
        ConsumerCreated(1, "s", 8, "c"),
    ]
    assert seen(folded(history, [created])) == seen(folded(history))


@pytest.mark.parametrize("removed", [SubscriptionRemoved(1, "s"), TopicRemoved(1), ConsumerRemoved(8)])
def test_a_consumer_goes_with_its_subscription_and_its_topic(removed: Event) -> None:
    created = SubscriptionCreated(1, "/default/t1", "s", SubscriptionType.SHARED, 5)
    history: list[Event] = [created, ConsumerCreated(1, "s", 8, "c")]
    assert folded(history).consumer(8) is not None
    assert folded(history, [removed]).consumer(8) is None


def test_a_log_that_began_anew_takes_every_cursor_back() -> None:
    created = SubscriptionCreated(1, "/default/t1", "s", SubscriptionType.SHARED, 5)
    state = folded([created, CursorMoved(1, "s", 90, [Range(95, 97, 3)]), LogSeen(3, "f"), LogRestarted(77)])
    subscription = state.topics[1].subscriptions["s"]
    assert (subscription.mark_delete, subscription.acked) == (BEFORE_ALL, [])
    assert (state.log_seen, state.log_restarted_ms) == (LogSeen(0, ""), 77)


@given(HISTORIES, st.data())
def test_damage_is_corrupt_data_and_nothing_worse(history: list[Event], data: st.DataObject) -> None:
    record = bytearray(encode_events(history))
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_events(bytes(record))
    except CorruptData:
        return


@pytest.mark.parametrize("record", [b"", b"\xd1", b"\x91\x80", b"\x91" * 5000])
def test_what_is_no_record_is_corrupt_data(record: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_events(record)


@given(st.lists(st.sampled_from(["create", "remove", "reset", "restart the log", "take over"]), max_size=20))
def test_a_subscription_that_starts_over_has_a_generation_that_none_of_its_name_had(steps: list[str]) -> None:
    state, had, restarts = BundleState(), [-1], 0
    state.apply(ProducerCreated(1, "/default/t", 1, "p", AccessMode.SHARED))
    for step in steps:
        topic = state.topics[1]
        subscription = topic.subscriptions.get("s")
        if step == "take over":
            state = folded(list(state.snapshot()))
        elif step == "create" and subscription is None:
            created = SubscriptionCreated(1, "/default/t", "s", SubscriptionType.SHARED, 0)
            state.apply(msgspec.structs.replace(created, generation=topic.generation))
        elif step == "remove":
            state.apply(SubscriptionRemoved(1, "s"))
        elif step == "reset" and subscription is not None:
            state.apply(CursorSet(1, "s", 0, [], topic.next_generation(subscription)))
        elif step == "restart the log" and subscription is not None:
            restarts += 1
            state.apply(LogRestarted(restarts))
        else:
            continue
        if step not in ("take over", "remove"):
            generation = state.topics[1].subscriptions["s"].generation
            assert generation > max(had)
            had.append(generation)


def test_failures_are_kept_until_their_message_is_acknowledged() -> None:
    created = SubscriptionCreated(1, "/default/t", "s", SubscriptionType.SHARED, 5)
    history: list[Event] = [
        created,
        CursorMoved(1, "s", 5, [Range(20, 29, 10)]),
        MessagesFailed(1, "s", [(7, 1), (15, 1), (25, 1), (40, 2)]),
        MessagesFailed(1, "s", [(15, 3), (3, 1)]),
    ]

    def failures(*more: Event) -> list[tuple[int, int]]:
        state = folded(history, list(more))
        assert seen(folded(list(state.snapshot()))) == seen(state)
        return state.topics[1].subscriptions["s"].failures.items()

    assert failures() == [(7, 1), (15, 3), (40, 2)]
    assert failures(CursorMoved(1, "s", 9, [])) == [(15, 3), (40, 2)]
    assert failures(CursorMoved(1, "s", 9, [Range(12, 17, 6)])) == [(40, 2)]
    assert failures(CursorSet(1, "s", 2, [])) == [], "it was reset: every message has all its attempts"
    assert failures(SubscriptionRemoved(1, "s"), created) == []


@given(st.lists(st.tuples(st.integers(1, 8), NUMBERS), max_size=40), st.integers(1, 1 << 40))
def test_a_snapshot_holds_producers_in_the_order_in_which_they_stored(
    notes: list[tuple[int, int]], through: int
) -> None:
    state = BundleState()
    state.apply(ProducersStored(through, notes))
    with patch.object(events_module, "LASTS_PER_EVENT_MAX", 2):
        snapshot = decode_events(encode_events(list(state.snapshot())))
    again = BundleState()
    again.fold(snapshot)
    assert again.sequences.items() == state.sequences.items()
    assert again.sequences.through == through


def test_a_log_that_began_anew_is_read_from_its_beginning() -> None:
    """What producers have stored in it before stays stored in their eyes."""
    state = BundleState()
    state.apply(ProducersStored(5, [(1, 7)]))
    state.apply(LogRestarted(1))
    assert state.sequences.through == 0
    assert state.sequences.last(1) == 7
