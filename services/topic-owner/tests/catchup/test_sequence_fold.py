from __future__ import annotations

import asyncio

import pytest

from danube_common.archive.records import BundleArchive
from danube_common.cluster import keys
from danube_common.cluster.records import Topic, encode_record
from danube_common.errors import NotFound
from danube_common.model.producer_sequences import ProducerSequences
from danube_common.wire.frame import IDEMPOTENT, encode_frame, make_frame_id, sequence_key
from danube_common.wire.owner.producers import FindSequence
from danube_common.wire.owner.topics import RetentionFloors
from danube_harness.services.owner_harness import PATIENCE_S, OwnerHarness


class Writer:
    """An idempotent producer that writes to the log."""

    def __init__(self, harness: OwnerHarness, topic: Topic, name: str) -> None:
        self.harness = harness
        self.topic = topic
        self.name = name
        self.last = 0

    async def store(self, messages: int) -> None:
        gateway = IDEMPOTENT | sequence_key(self.topic.topic_id, self.name)
        first = self.last + 1
        frame = encode_frame(gateway, first, [(self.topic.topic_id, [b"x"] * messages)])
        await self.harness.log.append(
            self.topic.home, frame, frame_id=make_frame_id(gateway, first), timeout_s=1
        )
        self.last += messages

    async def is_known(self) -> bool:
        found = await self.harness.ask(FindSequence(self.topic.name, self.name))
        return found.last == self.last


async def until_journaled(harness: OwnerHarness) -> None:
    """Wait until everything that the newest owner has read is in its journal."""
    context = harness.owners[harness.epoch].context
    async with asyncio.timeout(PATIENCE_S):
        while context.state.sequences.through < context.extent.tail:  # noqa: ASYNC110 - written by time
            await asyncio.sleep(0.01)
    await context.writer.flushed()


async def test_the_last_sequence_survives_owners_whatever_they_have_journaled(harness: OwnerHarness) -> None:
    topic = await harness.topic("/default/t")
    writers = [Writer(harness, topic, name) for name in ("a", "b")]
    await writers[0].store(3)  # before any owner
    await harness.own()
    assert await writers[0].is_known()
    await writers[1].store(1)
    assert await writers[1].is_known()
    await until_journaled(harness)
    await writers[0].store(2)
    await harness.kill()
    await writers[1].store(4)  # while there is no owner
    await harness.own()
    assert [await writer.is_known() for writer in writers] == [True, True]
    await until_journaled(harness)
    await harness.log.purge(topic.home, 100)
    await harness.kill()
    await harness.own()
    assert [await writer.is_known() for writer in writers] == [True, True]


async def test_an_owner_that_stops_in_order_journals_what_was_stored_last(harness: OwnerHarness) -> None:
    """Storage may purge it before anybody owns the bundle again."""
    topic = await harness.topic("/default/t")
    owner = await harness.own()
    writer = Writer(harness, topic, "a")
    await writer.store(3)
    assert await writer.is_known()
    await harness.owners.pop(harness.epoch).stop()
    await harness.log.purge(topic.home, 100)
    assert owner is not await harness.own()
    assert await writer.is_known()


async def note_in_archive(harness: OwnerHarness, writer: Writer) -> None:
    """Do what storage does before it purges a log."""
    lasts = ProducerSequences()
    lasts.note(sequence_key(writer.topic.topic_id, writer.name), writer.last)
    state = encode_record(BundleArchive(sequences=lasts.packed))
    await harness.store.put(keys.archive_key(writer.topic.home), state)
    await harness.log.purge(writer.topic.home, 100)


async def test_what_was_purged_while_there_was_no_owner_is_known_from_the_archive(
    harness: OwnerHarness,
) -> None:
    topic = await harness.topic("/default/t")
    await harness.own()
    writer = Writer(harness, topic, "a")
    await writer.store(3)
    await harness.kill()  # before its checkpoint
    await writer.store(2)
    await note_in_archive(harness, writer)
    await harness.own()
    assert await writer.is_known()
    await until_journaled(harness)
    await harness.store.delete(keys.archive_key(topic.home))
    await harness.kill()
    await harness.own()
    assert await writer.is_known()


async def test_what_was_purged_beyond_an_owner_is_known_from_the_archive(harness: OwnerHarness) -> None:
    topic = await harness.topic("/default/t")
    owner = await harness.own()
    await owner.reader.close()  # as if it were paused: no live feed
    writer = Writer(harness, topic, "a")
    await writer.store(3)
    await note_in_archive(harness, writer)
    assert await writer.is_known()


async def test_retention_is_told_up_to_where_the_journal_knows_what_was_stored(
    harness: OwnerHarness,
) -> None:
    """Storage notes the rest before it purges a log in memory; what it is told it need not."""
    topic = await harness.topic("/default/t")
    await harness.own()
    writer = Writer(harness, topic, "a")
    await writer.store(3)
    assert await writer.is_known()
    told = await harness.ask(RetentionFloors())
    assert told.sequences_through == 1
    await harness.log.purge(topic.home, told.sequences_through)
    await harness.kill()
    await harness.own()
    assert await writer.is_known()


async def test_an_answer_covers_what_is_stored_when_the_question_comes(harness: OwnerHarness) -> None:
    """Also if the live feed has not brought it yet."""
    topic = await harness.topic("/default/t")
    owner = await harness.own()
    await owner.reader.close()  # no live feed: only the check finds new frames
    writer = Writer(harness, topic, "a")
    for messages in (1, 5, 2):
        await writer.store(messages)
        assert await writer.is_known()


async def test_a_producer_that_stored_nothing_has_the_sequence_0(harness: OwnerHarness) -> None:
    topic = await harness.topic("/default/t")
    await harness.publish(topic, "of another kind")
    await harness.own()
    assert (await harness.ask(FindSequence(topic.name, "a"))).last == 0
    with pytest.raises(NotFound):
        await harness.ask(FindSequence("/default/other", "a"))
