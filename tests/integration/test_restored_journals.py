"""Journals of a restored cluster: their new owners have low epochs, and no old owner can write to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from danube_admin_service.backup.capture import Capture
from danube_admin_service.backup.restore import Restore
from danube_common.bus.nats import NatsBus
from danube_common.cluster import keys
from danube_common.cluster.records import Layout, encode_record
from danube_common.errors import JournalFenced
from danube_common.journal.jetstream import JetStreamJournal
from danube_common.model.bundle import Bundle
from danube_common.nats.snapshot import StreamSnapshots
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.servers.nats_server import NatsServer
from danube_topic_owner.journal.claim import JournalClaim, claim_journal
from danube_topic_owner.journal.events import SubscriptionRemoved, encode_events

OWNED, NEVER_OWNED = Bundle.parse("f0"), Bundle.parse("f1")
OLD_EPOCH = 100_000
"""Of an owner of the cluster that was lost: the revision of a store that had many writes."""


@asynccontextmanager
async def nats(directory: Path) -> AsyncIterator[NatsBus]:
    async with NatsServer.run(directory) as server:
        bus = await NatsBus.connect(server.url, name="test")
        yield bus
        await bus.close()


async def own(bus: NatsBus, bundle: Bundle, epoch: int, instance_id: str) -> JournalClaim:
    return await claim_journal(JetStreamJournal(bus.connection), bundle, epoch, instance_id, lambda: 0.0)


async def write(bus: NatsBus, after: JournalClaim) -> int:
    event = encode_events([SubscriptionRemoved(1, "s")])
    return await JetStreamJournal(bus.connection).append(OWNED, event, expected_sequence=after.sequence)


async def test_owners_of_a_restored_cluster_have_low_epochs_and_owners_of_the_lost_one_cannot_write(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = MemoryMetadata()
    await store.put(keys.LAYOUT, encode_record(Layout(2, 0)))
    async with nats(tmp_path_factory.mktemp("lost")) as lost:
        old = await own(lost, OWNED, OLD_EPOCH, "old")
        backup = [part async for part in Capture(store, StreamSnapshots(lost.connection)).parts()]
    restored = MemoryMetadata()
    async with nats(tmp_path_factory.mktemp("restored")) as bus:
        restore = Restore(restored, bus.connection, segments_dir=None, holder="")
        await restore.begin()
        for part in backup:
            await restore.take(part)
        with pytest.raises(JournalFenced):
            await write(bus, old)  # also before anybody owns the bundle
        epoch = await restored.put(keys.owner_key(OWNED), b"the first claim")
        assert epoch < OLD_EPOCH
        new = await own(bus, OWNED, epoch, "new")
        assert new.state.epoch == epoch
        with pytest.raises(JournalFenced):
            await write(bus, old)
        with pytest.raises(JournalFenced):
            await own(bus, OWNED, epoch - 1, "paused")
        await write(bus, new)
        assert (await own(bus, NEVER_OWNED, epoch, "new")).state.epoch == epoch
