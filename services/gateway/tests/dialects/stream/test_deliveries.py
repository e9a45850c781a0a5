from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import InvalidInput
from danube_common.model.run import Run
from danube_gateway.dialects.stream.batches import read_body
from danube_gateway.dialects.stream.deliveries import (
    ClientCredit,
    batch_of,
    compression_of,
    joined,
    steps_of,
)
from danube_proto import danube_stream_pb2 as api

MESSAGES = st.lists(st.binary(max_size=900), min_size=1, max_size=6)


@st.composite
def slices(draw: st.DrawFn) -> Run:
    """A part of a section, with what is around it in memory."""
    messages = draw(MESSAGES)
    whole = Run.of(draw(st.integers(1, 1 << 50)), messages)
    low = draw(st.integers(0, len(messages) - 1))
    return whole.tail(low).head(draw(st.integers(1, len(messages) - low)))


def messages_of(batch: api.Batch) -> list[bytes]:
    body = read_body(batch, 1 << 30)
    table = 4 * len(body.ends)
    return [body.data[table + a : table + b] for a, b in pairwise((0, *body.ends))]


@given(st.lists(slices(), min_size=1, max_size=4), st.sampled_from(api.Compression.values()))
def test_a_batch_holds_the_messages_of_its_runs_and_can_be_published_as_it_is(
    runs: list[Run], compression: api.Compression
) -> None:
    batch = batch_of(runs, compression)
    assert messages_of(batch) == [message for run in runs for message in run.messages()]
    assert len(batch.body) <= batch.body_bytes == sum(run.size + 4 * len(run) for run in runs)
    if not batch.compression:
        assert google_crc32c.value(batch.body) == batch.crc32c
        assert struct.unpack_from("<I", batch.body) == (len(runs[0].messages()[0]),)


@given(st.lists(st.integers(1, 5), max_size=8), st.sets(st.integers(0, 7)), st.booleans())
def test_joined_runs_have_the_positions_that_follow_from_the_first(
    counts: list[int], gaps: set[int], reliable: bool
) -> None:
    runs: list[Run] = []
    position = 1
    for index, count in enumerate(counts):
        position += index in gaps
        runs.append(Run.of(position if reliable else 0, [b"x"] * count))
        position += count
    groups = list(joined(runs))
    assert [run for group in groups for run in group] == runs
    for group in groups:
        assert positions_of(group) == [
            group[0].first + (index if reliable else 0) for index in range(sum(map(len, group)))
        ]
    for before, after in pairwise(groups):
        assert before[-1].last + 1 != after[0].first
        assert reliable


@given(st.lists(st.tuples(st.integers(-3, 4), st.integers(0, 1), st.integers(1, 4)), min_size=1, max_size=8))
def test_scattered_runs_have_the_positions_and_offsets_that_follow_from_the_first_and_the_steps(
    parts: list[tuple[int, int, int]],
) -> None:
    runs: list[Run] = []
    position, offset = 100, 50
    for gap, repeated, count in parts:
        position += gap
        offset += gap - (repeated if gap else 0)  # a batch that was stored twice has no offsets
        runs.append(Run.of(position, [b"x"] * count, offset))
        position, offset = position + count, offset + count
    groups = list(joined(runs, scattered=True))
    assert [run for group in groups for run in group] == runs
    for group in groups:
        count = sum(map(len, group))
        positions = list(accumulate(steps_of(group) or [1] * (count - 1), initial=group[0].first))
        assert positions == positions_of(group)
        offsets = [run.offset_at(position) for run in group for position, _ in run.entries()]
        assert offsets == [group[0].offset + each - group[0].first for each in positions]
    for before, after in pairwise(groups):
        first, last = before[-1], after[0]
        assert last.first <= first.last or last.offset - first.offset != last.first - first.first


def positions_of(runs: Sequence[Run]) -> list[int]:
    return [position for run in runs for position, _ in run.entries()]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5000)), max_size=12))
def test_credit_is_the_greatest_totals_less_what_was_sent(totals: list[tuple[int, int]]) -> None:
    credit = ClientCredit(api.Credit())
    sent = (0, 0)
    for index, (messages, size) in enumerate(totals):
        credit.grant(api.Credit(messages_total=messages, bytes_total=size))
        most = [max(part) for part in zip(*totals[: index + 1], strict=True)]
        assert (credit.messages, credit.bytes) == (most[0] - sent[0], most[1] - sent[1])
        if credit.is_open:
            credit.spend(1, 700)
            sent = (sent[0] + 1, sent[1] + 700)
    assert credit.messages >= 0


def test_the_first_compression_that_the_client_names_is_used() -> None:
    assert compression_of([api.COMPRESSION_LZ4, api.COMPRESSION_ZSTD]) == api.COMPRESSION_LZ4
    assert compression_of([]) == api.COMPRESSION_NONE
    with pytest.raises(InvalidInput):
        compression_of([9])  # type: ignore[list-item]
