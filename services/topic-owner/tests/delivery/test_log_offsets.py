from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from danube_common.model.position import position_of
from danube_topic_owner.delivery.log_offsets import CountedFrame, LogOffsets

TOPICS = (7, 8, 9)


class Counting(RuleBasedStateMachine):
    """A log of which offsets are known in a range; the model counts every message from the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[CountedFrame] = []
        self.offsets = LogOffsets()

    @rule(sizes=st.lists(st.integers(0, 4), min_size=3, max_size=3))
    def a_frame_is_stored(self, sizes: list[int]) -> None:
        sections = tuple((topic, size) for topic, size in zip(TOPICS, sizes, strict=True) if size)
        self.frames.append(CountedFrame(len(self.frames) + 1, sections))
        self.offsets.append(self.frames[-1])

    @rule()
    def an_owner_begins_at_the_end(self) -> None:
        self.offsets.start(len(self.frames), {topic: self.before(topic, 1 << 30, 0) for topic in TOPICS})

    @rule(back=st.integers(0, 5))
    def a_reader_asks_for_what_is_before(self, back: int) -> None:
        first = max(self.offsets.first - back, 1)
        self.offsets.prepend(self.frames[first - 1 : self.offsets.first], first)

    @rule(forward=st.integers(0, 5))
    def the_log_is_purged(self, forward: int) -> None:
        self.offsets.forget_before(self.offsets.first + forward)

    def before(self, topic: int, sequence: int, number: int) -> int:
        return sum(
            messages
            for frame in self.frames
            for at, (each, messages) in enumerate(frame.sections)
            if each == topic and (frame.sequence, at) < (sequence, number)
        )

    @invariant()
    def every_message_in_the_range_has_its_offset(self) -> None:
        rows = 0
        for frame in self.frames:
            for number, (topic, messages) in enumerate(frame.sections):
                at = position_of(frame.sequence, number, messages - 1)
                if frame.sequence >= self.offsets.first:
                    rows += 1
                    first = self.before(topic, frame.sequence, number)
                    assert self.offsets.of(topic, at) == first + messages - 1
                else:
                    with pytest.raises(LookupError):
                        self.offsets.of(topic, at)
        assert self.offsets.rows == rows

    @invariant()
    def what_is_behind_a_position_in_the_range_is_counted(self) -> None:
        end = len(self.frames) + 1
        for topic in TOPICS:
            total = self.before(topic, end, 0)
            assert self.offsets.count_after(topic, 0) == total - self.before(topic, self.offsets.first, 0)
            for frame in self.frames[self.offsets.first - 1 :]:
                for number, (each, messages) in enumerate(frame.sections):
                    position = position_of(frame.sequence, number, 0)
                    if each == topic:
                        behind = total - self.before(topic, frame.sequence, number)
                        assert self.offsets.count_after(topic, position - 1) == behind
                        assert self.offsets.count_after(topic, position) == behind - 1
                        assert self.offsets.count_after(topic, position + messages) == behind - messages


TestCounting = Counting.TestCase
