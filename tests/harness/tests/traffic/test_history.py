from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from danube_harness.traffic.history import Receipt, check, ranges

Numbers = st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(0, 40), min_size=1), min_size=1)


def in_order(sent: dict[str, set[int]]) -> list[Receipt]:
    return [(writer, number) for writer in sorted(sent) for number in sorted(sent[writer])]


def deal(receipts: list[Receipt], readers: int, chance: random.Random) -> dict[str, list[Receipt]]:
    dealt: dict[str, list[Receipt]] = {f"reader-{number}": [] for number in range(readers)}
    for receipt in receipts:
        dealt[chance.choice(sorted(dealt))].append(receipt)
    return dealt


@given(Numbers, st.integers(1, 4), st.randoms(use_true_random=False))
def test_a_clean_history_is_clean_however_readers_share_it(
    sent: dict[str, set[int]], readers: int, chance: random.Random
) -> None:
    report = check(sent, deal(in_order(sent), readers, chance))
    assert report.ok
    assert report.sent == report.received == sum(map(len, sent.values()))
    assert (report.duplicated, report.reordered, report.repeats_out_of_order) == (0, {}, {})


@given(Numbers, st.data(), st.randoms(use_true_random=False))
def test_exactly_what_was_taken_away_is_lost_and_each_loss_stands_in_its_part(
    sent: dict[str, set[int]], data: st.DataObject, chance: random.Random
) -> None:
    everything = in_order(sent)
    gone = data.draw(st.sets(st.sampled_from(everything)))
    received = [receipt for receipt in everything if receipt not in gone]
    report = check(sent, deal(received, 2, chance))
    assert report.lost == len(gone)
    assert report.ok is not bool(gone)
    for writer, about in report.writers.items():
        lost = about.lost
        kept = [number for name, number in received if name == writer]
        assert sorted([*lost.prefix, *lost.middle, *lost.postfix]) == sorted(
            n for w, n in gone if w == writer
        )
        if not kept:
            assert len(lost) == len(lost.postfix)
        else:
            assert all(number < min(kept) for number in lost.prefix)
            assert all(min(kept) < number < max(kept) for number in lost.middle)
            assert all(number > max(kept) for number in lost.postfix)


@given(Numbers, st.data(), st.randoms(use_true_random=False))
def test_each_receipt_beyond_the_first_is_a_duplicate_whoever_got_it(
    sent: dict[str, set[int]], data: st.DataObject, chance: random.Random
) -> None:
    everything = in_order(sent)
    again = data.draw(st.lists(st.sampled_from(everything), max_size=20))
    report = check(sent, deal(everything + again, 3, chance))
    assert report.duplicated == len(again)
    assert report.ok
    assert not report.reordered


@given(Numbers, st.data())
def test_without_an_acknowledgement_nothing_is_owed(sent: dict[str, set[int]], data: st.DataObject) -> None:
    everything = in_order(sent)
    acknowledged: dict[str, set[int]] = {}
    for writer, number in data.draw(st.sets(st.sampled_from(everything))):
        acknowledged.setdefault(writer, set()).add(number)
    received = data.draw(st.sets(st.sampled_from(everything)))
    report = check(sent, {"reader": sorted(received)}, acknowledged)
    owed = {(writer, number) for writer, numbers in acknowledged.items() for number in numbers}
    assert report.lost == len(owed - received)
    assert sum(each.recovered for each in report.writers.values()) == len(received - owed)
    assert sum(each.missing for each in report.writers.values()) == len(set(everything) - owed - received)


@given(Numbers, st.data())
def test_what_nobody_sent_is_unexpected_and_never_ok(sent: dict[str, set[int]], data: st.DataObject) -> None:
    stranger = data.draw(st.tuples(st.sampled_from("abcd"), st.integers(41, 50)))
    report = check(sent, {"reader": [*in_order(sent), stranger, stranger]})
    assert report.unexpected == {stranger: 2}
    assert not report.ok
    assert report.lost == report.duplicated == 0


@given(st.permutations(range(12)))
def test_messages_after_a_later_one_are_reordered(order: list[int]) -> None:
    report = check({"w": range(12)}, {"r": [("w", number) for number in order]})
    late = sum(any(earlier > number for earlier in order[:at]) for at, number in enumerate(order))
    assert sum(report.reordered.values()) == late
    assert report.ok


def test_a_rewind_is_told_from_a_reordering() -> None:
    order = [0, 1, 2, 3, 1, 2, 3, 5, 4]
    report = check({"w": range(6)}, {"r": [("w", number) for number in order]})
    assert report.repeats_out_of_order == {("r", "w"): 2}
    assert report.reordered == {("r", "w"): 1}


def test_a_repeat_at_another_reader_is_no_reordering() -> None:
    received = {"x": [("w", 0), ("w", 1)], "y": [("w", 2), ("w", 1)]}
    report = check({"w": range(3)}, received)
    assert report.repeats_out_of_order == {("y", "w"): 1}
    assert not report.reordered


def test_writers_do_not_order_one_another() -> None:
    received = {"r": [("a", 5), ("b", 1), ("a", 6), ("b", 2)]}
    assert not check({"a": [5, 6], "b": [1, 2]}, received).reordered


def test_the_text_shows_where_the_losses_are() -> None:
    report = check({"w": range(10)}, {"r": [("w", number) for number in (2, 3, 7, 6)]})
    assert report.text().splitlines() == [
        (
            "sent 10, received 4, lost 6, duplicated 0, reordered 1 (and 0 repeats out of order), "
            "unexpected 0, recovered 0"
        ),
        "  w: lost 2 (prefix): 0-1",
        "  w: lost 2 (middle): 4-5",
        "  w: lost 2 (postfix): 8-9",
        "  r: 1 of w out of order",
    ]


def test_ranges_are_cut_where_they_become_many() -> None:
    assert ranges([1, 2, 3, 7]) == "1-3, 7"
    assert ranges(range(0, 100, 2)).endswith("12, 14, ...")
