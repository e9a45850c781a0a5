"""Retention of the logs of memory bundles."""

from __future__ import annotations

import pytest

from danube_common.archive.state import read_archive_state
from danube_common.cluster import keys
from danube_common.cluster.owner_client import OwnerClient
from danube_common.model.producer_sequences import ProducerSequences
from danube_harness.services.retention_harness import (
    LOG_BYTES_MAX,
    MEMORY,
    MEMORY_ACK,
    MEMORY_EXPIRE,
    BlindMetadata,
    RetentionHarness,
)
from danube_storage.retention import floors
from danube_storage.retention.memory_purge import MemoryPurge

NOW = 1 << 60
"""Stored in the far future: expires after the test."""


async def test_a_memory_log_keeps_what_has_not_expired(harness: RetentionHarness) -> None:
    topic = await harness.topic("m", MEMORY_EXPIRE)
    for stored_ms in (0, 5, 9, NOW, NOW):
        await harness.publish(topic, stored_ms=stored_ms)
    assert await harness.purge(await harness.new_session(MEMORY)) == 4
    assert harness.counted("purged_frames") == {"m0": 3}


async def test_a_memory_log_keeps_what_some_subscription_has_not_acknowledged(
    harness: RetentionHarness,
) -> None:
    topic, passing = await harness.topic("m", MEMORY_ACK), await harness.topic("n", MEMORY_EXPIRE)
    session = await harness.new_session(MEMORY)
    for _ in range(5):
        await harness.publish(topic, passing)
    assert await harness.purge(session) == 1
    harness.acknowledge(topic, 3)
    assert await harness.purge(session) == 4


async def test_who_holds_a_memory_log_is_told_by_name(harness: RetentionHarness) -> None:
    topic, passing = await harness.topic("m", MEMORY_ACK), await harness.topic("n", MEMORY_EXPIRE)
    session = await harness.new_session(MEMORY)
    for _ in range(5):
        await harness.publish(topic, passing)
    await harness.purge(session)
    told = (await read_archive_state(harness.metadata, MEMORY)).memory_log
    assert (told.held_by, told.size_bytes) == (topic.name, (await harness.log.bounds(MEMORY)).stored_bytes)
    await harness.publish(passing, stored_ms=NOW)
    harness.acknowledge(topic, 6)
    await harness.purge(session)
    told = (await read_archive_state(harness.metadata, MEMORY)).memory_log
    assert (told.held_by, told.oldest_ms) == (passing.name, NOW)


async def test_a_memory_log_under_pressure_gives_up_what_nobody_waits_for(harness: RetentionHarness) -> None:
    topic, passing = await harness.topic("m", MEMORY_ACK), await harness.topic("n", MEMORY_EXPIRE)
    session = await harness.new_session(MEMORY)
    for _ in range(4):
        await harness.publish(topic, passing, stored_ms=NOW, size_bytes=100)
    harness.acknowledge(passing, 3)
    assert await harness.purge(session) == 1
    await harness.publish(passing, stored_ms=NOW, size_bytes=LOG_BYTES_MAX)
    assert await harness.purge(session) == 4


async def test_a_topic_that_the_view_has_not_seen_keeps_its_messages_in_memory(
    harness: RetentionHarness,
) -> None:
    blind = await harness.view(BlindMetadata(harness.metadata))
    topic = await harness.topic("m", MEMORY_ACK)
    await harness.publish(topic)
    assert await harness.purge(await harness.new_session(MEMORY, blind)) == 1


@pytest.mark.parametrize("journaled", [None, 0, 2, 3, 99], ids=lambda through: f"journaled={through}")
async def test_what_a_producer_has_stored_is_noted_before_it_is_purged(
    harness: RetentionHarness, monkeypatch: pytest.MonkeyPatch, journaled: int | None
) -> None:
    """Unless its owner has journaled it; without an owner, and with one of a lost log, all is noted."""
    topic = await harness.topic("m", MEMORY_EXPIRE)
    for first in (1, 3, 5):
        await harness.publish_batch(topic, key=7, first=first, messages=2)
    await harness.publish(topic, stored_ms=NOW)
    if journaled is None:
        monkeypatch.setattr(floors, "ANSWER_TIMEOUT_S", 0.1)
        await harness.metadata.delete(keys.owner_key(MEMORY))
    else:
        harness.owner.sequences_through[MEMORY] = journaled
    assert await harness.purge(await harness.new_session(MEMORY)) == 4
    archive = await read_archive_state(harness.metadata, MEMORY)
    noted = ProducerSequences.unpack(archive.sequences).items()
    assert noted == ([] if journaled == 3 else [(7, 6)])


async def test_an_empty_or_missing_memory_log_is_left_alone(harness: RetentionHarness) -> None:
    session = await harness.new_session(MEMORY)
    owners = OwnerClient(harness.bus, harness.catalogue)
    purge = MemoryPurge(session, owners, harness.metrics, bytes_max=LOG_BYTES_MAX)
    await purge.run_pass()
    await harness.log.open(MEMORY)
    await purge.run_pass()
    assert (await harness.log.bounds(MEMORY)).last_sequence == 0
