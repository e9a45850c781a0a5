from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from danube_gateway.consume import unacked as unacked_module
from danube_gateway.consume.unacked import Unacked

STREAMS = ("one", "two", "three")
POSITIONS = st.integers(1, 60)
SPAN = st.tuples(POSITIONS, st.integers(0, 5)).map(lambda span: (span[0], sum(span)))
SPANS = st.lists(SPAN, min_size=1, max_size=12)


class UnackedMachine(RuleBasedStateMachine):
    """The ranges hold what a dictionary from position to stream would."""

    def __init__(self) -> None:
        super().__init__()
        self.unacked = Unacked()
        self.model: dict[int, str] = {}

    @rule(stream=st.sampled_from(STREAMS), first=POSITIONS, count=st.integers(1, 12))
    def deliver(self, stream: str, first: int, count: int) -> None:
        self.unacked.add(stream, first, count)
        self.model.update(dict.fromkeys(range(first, first + count), stream))

    @rule(stream=st.sampled_from(STREAMS), count=st.integers(1, 12), gap=st.integers(0, 2))
    def deliver_next(self, stream: str, count: int, gap: int) -> None:
        self.deliver(stream, max(self.model, default=0) + 1 + gap, count)

    @rule(stream=st.sampled_from(STREAMS), spans=SPANS)
    def deliver_spans(self, stream: str, spans: list[tuple[int, int]]) -> None:
        self.unacked.add_all(stream, spans)
        for first, last in spans:
            self.model.update(dict.fromkeys(range(first, last + 1), stream))

    @rule(stream=st.sampled_from(STREAMS), which=st.sets(st.integers(1, 60), min_size=4), data=st.data())
    def deliver_scattered(self, stream: str, which: set[int], data: st.DataObject) -> None:
        """Ascending and apart, as messages of different keys are; most are new."""
        base = max(self.model, default=0) - data.draw(st.integers(-1, 3))
        self.deliver_spans(stream, [(base + each, base + each) for each in sorted(which)])

    @rule(position=POSITIONS)
    def acknowledge(self, position: int) -> None:
        assert self.unacked.take(position) is (self.model.pop(position, None) is not None)

    @rule(stream=st.sampled_from(STREAMS), first=POSITIONS, count=st.integers(1, 30))
    def acknowledge_a_span(self, stream: str, first: int, count: int) -> None:
        spans = self.unacked.take_span(stream, first, first + count - 1)
        taken = [position for begin, end in spans for position in range(begin, end + 1)]
        expected = [each for each in range(first, first + count) if self.model.get(each) == stream]
        assert taken == expected
        for position in taken:
            del self.model[position]

    @rule(stream=st.sampled_from(STREAMS), spans=SPANS)
    def acknowledge_spans(self, stream: str, spans: list[tuple[int, int]]) -> None:
        taken = [p for begin, end in self.unacked.take_spans(stream, spans) for p in range(begin, end + 1)]
        asked = {position for first, last in spans for position in range(first, last + 1)}
        assert taken == [each for each in sorted(asked) if self.model.get(each) == stream]
        for position in taken:
            del self.model[position]

    @rule(stream=st.sampled_from(STREAMS), which=st.integers(0, 60))
    def acknowledge_a_whole_range(self, stream: str, which: int) -> None:
        if len(self.unacked):
            at = which % len(self.unacked)
            first, last = self.unacked._firsts[at], self.unacked._lasts[at]
            self.acknowledge_a_span(stream, first, last - first + 1)

    @rule()
    def acknowledge_the_first(self) -> None:
        if self.model:
            self.acknowledge(min(self.model))

    @rule(stream=st.sampled_from(STREAMS))
    def end(self, stream: str) -> None:
        self.unacked.forget(stream)
        self.model = {position: each for position, each in self.model.items() if each != stream}

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        held = {
            position: stream
            for first, last, stream in zip(
                self.unacked._firsts, self.unacked._lasts, self.unacked._streams, strict=True
            )
            for position in range(first, last + 1)
        }
        assert held == self.model
        assert list(held) == sorted(held), "ascending and apart"


UnackedMachine.TestCase.settings = settings(stateful_step_count=30)
TestUnacked = UnackedMachine.TestCase


def test_what_one_stream_delivers_in_order_is_one_range() -> None:
    unacked = Unacked()
    unacked.add("s", 1, 100)
    unacked.add("s", 101, 100)
    assert len(unacked) == 1
    assert all(unacked.take(position) for position in range(1, 200))
    assert len(unacked) == 1
    assert unacked.take(200)
    assert len(unacked) == 0


def test_beyond_its_bound_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unacked_module, "UNACKED_RANGES_MAX", 100)
    unacked = Unacked()
    for position in range(0, 1000, 2):
        unacked.add("s", position, 1)
        assert len(unacked) <= 100
    assert not unacked.take(0)
    assert unacked.take(998)


def test_only_what_a_stream_itself_delivered_is_found() -> None:
    unacked, mine, other = Unacked(), object(), object()
    unacked.add(mine, 10, 5)
    unacked.add(other, 15, 5)
    unacked.add(mine, 20, 5)
    assert unacked.overlap(mine, 12, 21) == [(12, 14), (20, 21)]
    assert unacked.overlap(other, 1, 100) == [(15, 19)]
    assert len(unacked) == 3
