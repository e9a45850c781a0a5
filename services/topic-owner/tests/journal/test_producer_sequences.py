from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from danube_topic_owner.journal import events as events_module
from danube_topic_owner.journal import producer_sequences as module
from danube_topic_owner.journal.events import LogRestarted, ProducersStored, decode_events, encode_events
from danube_topic_owner.journal.producer_sequences import ProducerSequences
from danube_topic_owner.journal.state import BundleState

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


@given(NOTES, st.integers(1, 1 << 40))
def test_a_snapshot_holds_them_in_their_order(notes: list[tuple[int, int]], through: int) -> None:
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
