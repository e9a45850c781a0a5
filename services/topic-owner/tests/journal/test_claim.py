from __future__ import annotations

import pytest

from danube_common.errors import JournalFenced
from danube_common.model.bundle import Bundle
from danube_harness.memory.journal import MemoryJournal
from danube_topic_owner.journal.claim import CLAIM_ATTEMPTS_MAX, JournalClaim, claim_journal
from danube_topic_owner.journal.events import LogRestarted, encode_events

BUNDLE = Bundle.parse("f0")


class ContendedJournal(MemoryJournal):
    """Another owner writes before each of the first appends."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def append(
        self, bundle: Bundle, data: bytes, *, expected_sequence: int, reserve: bool = False
    ) -> int:
        if self.times:
            self.times -= 1
            sequence = await super().append(
                bundle, encode_events([LogRestarted(self.times)]), expected_sequence=expected_sequence
            )
            assert sequence > expected_sequence
        return await super().append(bundle, data, expected_sequence=expected_sequence, reserve=reserve)


async def claim(journal: MemoryJournal, epoch: int) -> JournalClaim:
    return await claim_journal(journal, BUNDLE, epoch, f"instance-{epoch}", lambda: 7.0)


async def test_a_claim_fences_the_previous_owner() -> None:
    journal = MemoryJournal()
    first = await claim(journal, 1)
    second = await claim(journal, 2)
    assert (second.state.epoch, second.confirmed_at) == (2, 7.0)
    with pytest.raises(JournalFenced):
        await journal.append(BUNDLE, b"", expected_sequence=first.sequence)


async def test_a_claim_holds_what_another_owner_wrote_meanwhile() -> None:
    claimed = await claim(ContendedJournal(CLAIM_ATTEMPTS_MAX - 1), 3)
    assert (claimed.state.epoch, claimed.sequence) == (3, CLAIM_ATTEMPTS_MAX)


async def test_a_claim_gives_up_while_another_owner_writes_on() -> None:
    with pytest.raises(JournalFenced):
        await claim(ContendedJournal(CLAIM_ATTEMPTS_MAX), 3)


async def test_a_claim_of_an_earlier_epoch_writes_nothing() -> None:
    journal = MemoryJournal()
    await claim(journal, 5)
    with pytest.raises(JournalFenced):
        await claim(journal, 3)
    assert len([record async for record in journal.replay(BUNDLE)]) == 1
