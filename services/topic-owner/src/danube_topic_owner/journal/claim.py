"""Takes over a bundle's journal: rebuilds the state that it holds and fences the previous owner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from danube_common.errors import JournalFenced
from danube_common.journal.port import StateJournal
from danube_common.model.bundle import Bundle
from danube_topic_owner.journal.events import Claimed, decode_events, encode_events
from danube_topic_owner.journal.state import BundleState

CLAIM_ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class JournalClaim:
    """A journal that was just taken over.

    Attributes:
        state: the state that the journal's records describe; its epoch is the claim's.
        sequence: of the record that claims the journal, its last one.
        confirmed_at: when that record was sent (monotonic seconds).
    """

    state: BundleState
    sequence: int
    confirmed_at: float


async def claim_journal(
    journal: StateJournal, bundle: Bundle, epoch: int, instance_id: str, clock: Callable[[], float]
) -> JournalClaim:
    """Write the claim of ``epoch`` behind everything that earlier owners wrote.

    Raises:
        JournalFenced: the journal has a later epoch, or other owners wrote during each attempt.
        LogUnavailable: the journal does not answer.
        CorruptData: a record cannot be decoded.
    """
    await journal.open()
    for _ in range(CLAIM_ATTEMPTS_MAX):
        state = BundleState()
        sequence = 0
        async for record in journal.replay(bundle):
            state.fold(decode_events(record.data))
            sequence = record.sequence
        if state.epoch > epoch:
            # A claim that was paused must not fence the one that came after it.
            raise JournalFenced(f"bundle {bundle} was taken over in epoch {state.epoch}")
        claimed = Claimed(epoch, instance_id)
        sent_at = clock()
        try:
            sequence = await journal.append(
                bundle, encode_events([claimed]), expected_sequence=sequence, reserve=True
            )
        except JournalFenced:
            continue
        state.apply(claimed)
        return JournalClaim(state, sequence, sent_at)
    raise JournalFenced(f"bundle {bundle} is being written by another owner")
