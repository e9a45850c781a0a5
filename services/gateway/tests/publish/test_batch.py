from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_common.model.position import SECTIONS_PER_FRAME_MAX
from danube_common.wire.frame import decode_frame, encode_frame
from danube_gateway.publish.batch import FRAME_BYTES_TARGET, FRAME_MESSAGES_MAX, Batch

SIZES = st.integers(0, 100) | st.sampled_from(
    [FRAME_BYTES_TARGET // 3, FRAME_BYTES_TARGET, FRAME_BYTES_TARGET + 1, 2 * FRAME_BYTES_TARGET]
)


@given(st.lists(st.tuples(st.integers(1, 4), SIZES), max_size=40), st.integers(0, 40))
def test_every_message_leaves_once_in_its_topics_order_within_the_bounds(
    arrivals: list[tuple[int, int]], pause: int
) -> None:
    """Holds also for messages that arrive while frames are taken."""
    batch: Batch[int] = Batch()
    sent: list[tuple[int, bytes]] = []
    tokens: list[int] = []

    def leave() -> None:
        sections, left = batch.take()
        size = sum(len(message) for _, messages in sections for message in messages)
        count = sum(len(messages) for _, messages in sections)
        assert count == len(left) > 0
        assert size <= FRAME_BYTES_TARGET or count == 1
        assert len({topic for topic, _ in sections}) == len(sections)
        decode_frame(encode_frame(1, 1, sections))
        sent.extend((topic, message) for topic, messages in sections for message in messages)
        tokens.extend(left)

    for token, (topic, size) in enumerate(arrivals):
        batch.add(topic, bytes([token]) * size, token)
        if pause and token % pause == 0:
            leave()
    while batch:
        leave()
    assert batch.bytes == 0
    assert tokens == list(range(len(arrivals)))
    for topic in range(1, 5):
        expected = [bytes([n]) * size for n, (of, size) in enumerate(arrivals) if of == topic]
        assert [message for of, message in sent if of == topic] == expected


def test_a_message_larger_than_a_frame_stands_alone() -> None:
    batch: Batch[str] = Batch()
    for name, size in (("a", 1), ("b", FRAME_BYTES_TARGET + 1), ("c", 1), ("d", 1)):
        batch.add(1, bytes(size), name)
    assert [batch.take()[1] for _ in range(3)] == [["a"], ["b"], ["c", "d"]]
    assert batch.take() == ([], [])


def test_a_frame_holds_no_more_messages_and_topics_than_positions_can_name() -> None:
    batch: Batch[int] = Batch()
    for number in range(FRAME_MESSAGES_MAX + 1):
        batch.add(1, b"", number)
    assert [len(batch.take()[1]) for _ in range(2)] == [FRAME_MESSAGES_MAX, 1]
    for topic in range(SECTIONS_PER_FRAME_MAX + 5):
        batch.add(topic, b"", topic)
    sections, _ = batch.take()
    decode_frame(encode_frame(1, 1, sections))
    assert len(sections) + len(batch.take()[0]) == SECTIONS_PER_FRAME_MAX + 5
