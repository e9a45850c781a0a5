from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from danube_harness.chaos.nemesis import NEMESES, append_torn_writes
from danube_harness.chaos.outcome import Outcome, Struck
from danube_harness.chaos.plan import Strike
from danube_harness.chaos.report import page, text
from danube_harness.traffic.clients import (
    DISK,
    EXCLUSIVE,
    KEYED,
    LATE,
    TOPICS,
    Reader,
    Reading,
    Subscription,
    Topic,
    Writer,
    longest_gap_s,
    payload,
    receipt,
)
from danube_harness.traffic.load import Load

TOPIC = TOPICS[0]
VOLATILE = TOPICS[-1]
NATS_KILLED = Struck(Strike(1.0, "kill", "nats", 0.0), 101.0, 102.0)


def outcome_of(
    *received: list[int], topic: Topic = TOPIC, reading: Reading = EXCLUSIVE, struck: Struck = NATS_KILLED
) -> Outcome:
    """A writer whose messages 1 to 4 were acknowledged, and a subscription for each list."""
    writer = Writer("writer", topic, [], sent=4, acknowledged={1, 2, 3, 4}, acknowledged_at=[100.5, 103.0])
    subscriptions = []
    for number, numbers in enumerate(received):
        subscription = Subscription(topic, LATE if number else reading)
        subscription.progressed_at.extend([100.6, 103.5])
        got = [("writer", one) for one in numbers]
        at = [101.0 + 0.1 * place for place in range(len(got))]
        subscription.readers.append(Reader("reader", subscription, [], received=got, received_at=at))
        subscriptions.append(subscription)
    return Outcome(
        seed=1,
        duration_s=10.0,
        struck=[struck],
        writers=[writer],
        subscriptions=subscriptions,
        began=100.0,
        healed=110.0,
        ended=111.0,
    )


def test_a_run_in_which_all_arrive_breaks_nothing() -> None:
    assert outcome_of([1, 2, 3, 4], [1, 2, 3, 4]).problems() == []


def test_repeats_are_no_broken_guarantee() -> None:
    assert outcome_of([1, 2, 1, 2, 3, 4], [1, 2, 3, 4]).problems() == []


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ([1, 2, 3], ""),
        ([1, 2, 3, 2], "1 messages twice in the log"),
        ([1, 3, 2], "1 out of order in the log"),
    ],
)
def test_a_message_stored_twice_or_misplaced_is_a_broken_guarantee(positions: list[int], said: str) -> None:
    outcome = outcome_of([1, 2, 3, 4])
    for number, position in enumerate(positions):
        outcome.subscriptions[0].take(("writer", number % 3 + 1), position * 10)
        outcome.subscriptions[0].take(("writer", number % 3 + 1), position * 10)  # delivered again
    (problem,) = outcome.problems() or [""]
    assert said in problem
    assert bool(problem) is bool(said)


@pytest.mark.parametrize(
    ("received", "said"),
    [
        ([1, 2, 4], "lost 1"),
        ([1, 2, 3, 4, 5], "nobody sent"),
        ([1, 3, 2, 4], "out of order"),
    ],
)
def test_loss_strangers_and_disorder_are_broken_guarantees(received: list[int], said: str) -> None:
    (problem,) = outcome_of(received).problems()
    assert said in problem


def test_order_is_guaranteed_to_those_who_read_alone() -> None:
    shared = TOPIC.readings[1]
    assert shared.readers > 1
    assert outcome_of([1, 3, 2, 4], reading=shared).problems() == []


def test_a_writer_with_several_in_flight_may_change_its_own_order_and_it_is_told() -> None:
    pipelined = replace(TOPIC, in_flight_max=64)
    outcome = outcome_of([1, 3, 2, 4], [1, 3, 2, 4], topic=pipelined)
    assert outcome.problems() == []
    assert outcome.disorders() == [
        f"{TOPIC.name} {name}: writer 2 after 3 at 1.2 s" for name in ("exclusive", "late")
    ]
    (problem,) = outcome_of([1, 3, 2, 4], [1, 2, 3, 4], topic=pipelined).problems()
    assert "late" in problem


def test_readers_who_disagree_are_a_broken_guarantee() -> None:
    # Each message twice: a repeat may come late, but then it must do so for everybody.
    (problem,) = outcome_of([1, 2, 3, 4, 2, 3], [1, 3, 2, 4, 3, 2]).problems()
    assert "late" in problem


def test_a_volatile_topic_may_lose_what_its_server_held_but_not_otherwise() -> None:
    assert outcome_of([1, 2], topic=VOLATILE).problems() == []
    gateway = Struck(Strike(1.0, "kill", "gateway", 0.0), 101.0, 102.0)
    (problem,) = outcome_of([1, 2], topic=VOLATILE, struck=gateway).problems()
    assert "lost 2" in problem


def test_a_message_that_is_neither_acknowledged_nor_a_dead_letter_is_a_broken_guarantee() -> None:
    keyed = Topic("/default/accounts", DISK, (KEYED,), streaming=True)
    load = Load()
    load.writers = [Writer("accounts-1", keyed, [], sent=23, acknowledged=set(range(1, 24)))]
    dead = Subscription(next(each for each in TOPICS if each.dead_letters), EXCLUSIVE)
    one = Subscription(keyed, KEYED)
    load.subscriptions = [one, dead]
    for number in range(1, 24):
        for _ in range(2):
            one.answers.answer(("accounts-1", number), 0, one.answers.opens())
    assert load.unsettled(one) == {("accounts-1", 11)}  # poison
    outcome = outcome_of([1, 2, 3, 4])
    outcome.unsettled = {one.name: sorted(load.unsettled(one))}
    assert "neither acknowledged nor dead letters" in outcome.problems()[0]
    dead.take(("accounts-1", 11), 7)
    assert not load.unsettled(one)


def test_what_never_serves_again_is_a_broken_guarantee() -> None:
    struck = Struck(Strike(1.0, "kill", "gateway", 0.0), 101.0, None)
    (problem,) = outcome_of([1, 2, 3, 4], struck=struck).problems()
    assert "did not serve again" in problem


def test_the_silence_after_a_fault_is_measured_within_it() -> None:
    (silence,) = outcome_of([1, 2, 3, 4]).silences
    assert silence.publishing_s == pytest.approx(7.0)  # no answer after 103.0, faults until 110.0
    assert silence.delivery_s == pytest.approx(2.5)
    assert longest_gap_s([1.0, 2.0, 4.5, 9.0], 1.5, 5.0) == pytest.approx(2.5)


def test_both_reports_show_seed_counts_and_what_was_broken() -> None:
    outcome = outcome_of([1, 2, 4])
    for report in (text(outcome), page(outcome)):
        assert "kill nats" in report
        assert "lost 1" in report
    assert "seed 1" in text(outcome)
    outcome.left_out = "NO DISK"
    assert "NO DISK" in text(outcome)
    assert "guarantees broken" in page(outcome)


def test_a_payload_says_whose_it_is_and_whether_it_is_whole() -> None:
    for number in range(1, 300):
        content = payload("orders-1", number)
        assert receipt(content) == ("orders-1", number)
        assert receipt(content + b"x")[0].startswith("changed")
        assert receipt(content[:-1])[0].startswith("changed")


@pytest.mark.parametrize("content", [b"", b" ", b"\xff \xff", b"writer 0x10 ", "writer ٣ ".encode()])
def test_other_payloads_are_nobodys(content: bytes) -> None:
    assert receipt(content)[0].startswith("changed")


def test_a_torn_write_adds_to_the_newest_block_of_each_stream_only(tmp_path: Path) -> None:
    for stream in ("one", "two", "empty"):
        (tmp_path / stream / "msgs").mkdir(parents=True)
    for stream in ("one", "two"):
        for number in (2, 9, 10):
            (tmp_path / stream / "msgs" / f"{number}.blk").write_bytes(b"record")
    assert append_torn_writes(tmp_path, random.Random(3)) == 2
    for stream in ("one", "two"):
        messages = tmp_path / stream / "msgs"
        assert [(messages / f"{number}.blk").read_bytes() for number in (2, 9)] == [b"record"] * 2
        newest = (messages / "10.blk").read_bytes()
        assert newest.startswith(b"record")
        assert len(newest) > len(b"record")


def test_every_fault_is_named_once() -> None:
    assert len(set(NEMESES)) == len(NEMESES)
