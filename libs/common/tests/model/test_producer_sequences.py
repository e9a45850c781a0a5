from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import CorruptData
from danube_common.model import producer_sequences as module
from danube_common.model.producer_sequences import ProducerSequences

NOTES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 1 << 62)), max_size=40)


@given(NOTES)
def test_a_producers_last_sequence_never_goes_back(notes: list[tuple[int, int]]) -> None:
    sequences = ProducerSequences()
    for key, last in notes:
        sequences.note(key, last)
    keys = {key for key, _ in notes}
    assert dict(sequences.items()) == {k: max(last for key, last in notes if key == k) for k in keys}


@given(NOTES)
def test_the_producers_that_stored_last_are_remembered(notes: list[tuple[int, int]]) -> None:
    with patch.object(module, "PRODUCERS_MAX", 3):
        sequences = ProducerSequences()
        for key, last in notes:
            sequences.note(key, last)
    recent = list(dict.fromkeys(key for key, _ in reversed(notes)))[:3]
    assert [key for key, _ in sequences.items()] == recent[::-1]


@given(NOTES)
def test_they_are_stored_in_their_order(notes: list[tuple[int, int]]) -> None:
    sequences = ProducerSequences()
    sequences.merge(notes)
    assert ProducerSequences.unpack(sequences.packed).items() == sequences.items()


def test_a_damaged_table_is_refused() -> None:
    with pytest.raises(CorruptData, match="17 bytes"):
        ProducerSequences.unpack(bytes(17))
