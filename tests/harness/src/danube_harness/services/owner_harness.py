"""A bundle's owner over the in-memory ports, with gateways that keep what they receive."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import Layout, Topic, encode_record
from danube_common.cluster.topics import Topics
from danube_common.log.port import LogBounds, LogEntry
from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.model.subscription import SubscriptionType
from danube_common.nats.connection import Connection
from danube_common.runtime.metrics import Metrics
from danube_common.runtime.ports import Ports
from danube_common.wire.delivery import MAGIC, Delivery, decode_deliveries
from danube_common.wire.envelope import Request
from danube_common.wire.frame import encode_frame, make_frame_id
from danube_common.wire.owner.acknowledgements import Acked, Acks, TopicAcks, ack_ranges
from danube_common.wire.owner.notices import SessionEnded, decode_notice
from danube_common.wire.owner.protocol import (
    OWNER,
    gateway_subject,
    non_reliable_subject,
    owner_subject,
)
from danube_common.wire.owner.sessions import Attach, CreateConsumer
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.journal import MemoryJournal
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.consumer import Window
from danube_topic_owner.journal.claim import claim_journal
from danube_topic_owner.owner_metrics import OwnerMetrics

EXCLUSIVE, SHARED, FAILOVER = SubscriptionType.EXCLUSIVE, SubscriptionType.SHARED, SubscriptionType.FAILOVER
DISK = Strategy(ReliableOptions(storage=StorageBackend.DISK))
IN_MEMORY = Strategy(ReliableOptions(storage=StorageBackend.MEMORY))
NON_RELIABLE = Strategy()
PLENTY = 1 << 40
PATIENCE_S = 20.0
"""A test that waits longer has failed; none waits for time to pass."""

R = TypeVar("R", bound=msgspec.Struct)


class TurningLog(MemoryLog):
    """Lets other tasks run before and after each look-up, as a log over the network does."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Callable[[], int] = lambda: 0

    async def bounds(self, bundle: Bundle) -> LogBounds:
        """Look up the bounds, with other tasks before and after."""
        await self._turn()
        answer = await super().bounds(bundle)
        await self._turn()
        return answer

    async def read(
        self, bundle: Bundle, from_sequence: int, *, frames_max: int, bytes_max: int
    ) -> list[LogEntry]:
        """Read at most four frames, with other tasks before and after."""
        await self._turn()
        answer = await super().read(bundle, from_sequence, frames_max=min(frames_max, 4), bytes_max=bytes_max)
        await self._turn()
        return answer

    def lose(self, bundle: Bundle) -> None:
        """Lose everything that was stored, as when the server of a volatile log dies."""
        stored = self._opened(bundle)
        stored.entries.clear()
        stored.sequences_by_id.clear()
        stored.last_sequence = stored.bytes_kept = 0

    async def _turn(self) -> None:
        for _ in range(self.turns()):
            await asyncio.sleep(0)


class Gateway:
    """Receives deliveries and notices, and sends requests to the newest owner."""

    def __init__(self, harness: OwnerHarness, name: str) -> None:
        self.harness = harness
        self.name = name
        self.deliveries: list[Delivery] = []
        self.notices: list[SessionEnded] = []
        self.arrived = asyncio.Event()

    def take(self, data: bytes) -> None:
        """Receive a delivery or a notice."""
        if data[0] == MAGIC:
            self.deliveries += decode_deliveries(data)
        else:
            self.notices.append(decode_notice(data))
        self.arrived.set()

    def texts(self, consumer_id: int | None = None) -> list[str]:
        """Return the texts of the messages that came, of one consumer or of all."""
        return [message.decode() for _, message in self.entries(consumer_id)]

    def positions(self, consumer_id: int | None = None) -> list[int]:
        """Return the positions of the messages that came, of one consumer or of all."""
        return [position for position, _ in self.entries(consumer_id)]

    def offsets(self) -> list[tuple[str, int]]:
        """Return the texts of the messages that came, with their offsets."""
        runs = [run for delivery in self.deliveries for run in delivery.runs]
        return [(text.decode(), run.offset_at(at)) for run in runs for at, text in run.entries()]

    def entries(self, consumer_id: int | None = None) -> list[tuple[int, bytes]]:
        """Return (position, message) of what came, of one consumer or of all."""
        return [
            entry
            for delivery in self.deliveries
            if consumer_id in (None, delivery.consumer_id)
            for entry in delivery.entries()
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a delivery or notice makes the condition true. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.arrived.clear()
                await self.arrived.wait()

    async def subscribe(
        self, topic: str, subscription: str, kind: SubscriptionType = EXCLUSIVE, name: str = "c"
    ) -> int:
        """Create a consumer and return its id."""
        request = CreateConsumer(topic, subscription, kind, name)
        return (await self.harness.ask(request)).consumer_id

    async def attach(
        self, consumer_id: int, *, messages: int = PLENTY, session: int = 0, client: str = "", **more: int
    ) -> int:
        """Open a stream with a credit of ``messages`` and return its session."""
        session = session or next(self.harness.sessions)
        request = Attach(consumer_id, self.name, session, messages, PLENTY, client=client, **more)
        await self.harness.ask(request)
        return session

    async def ack(self, topic: str, subscription: str, positions: list[int]) -> Acked:
        """Acknowledge positions."""
        return await self.harness.ask(Acks([TopicAcks(topic, subscription, ack_ranges(positions))]))


class OwnerHarness:
    """One bundle, its ports, and the owners that it had.

    Attributes:
        now: the time that owners see; it stands still unless a test moves it.
        registered: whether the metadata store confirms the owners' registration.
        window: bounds of each consumer's unacknowledged messages, for owners created from now on.
    """

    def __init__(self, store: MemoryMetadata, catalogue: Catalogue) -> None:
        self.now = 1000.0
        self.store = store
        self.catalogue = catalogue
        self.hub = MemoryHub()
        self.bus = MemoryBus(self.hub)
        self.log = TurningLog()
        self.journal = MemoryJournal()
        self.ports = Ports(self.bus, self.log, self.journal, self.store, Connection())
        self.topics = Topics(self.store, self.log, now_ms=lambda: time.time_ns() // 1_000_000)
        self.metrics = OwnerMetrics(Metrics("topic-owner", "1"), "1")
        self.epoch = 0
        self.owners: dict[int, BundleOwner] = {}
        self.lost: list[int] = []
        self.sessions = itertools.count(1)
        self.frames = itertools.count(1)
        self.bundle = Bundle.parse("f0")
        self.registered = True
        self.window = Window(messages=50)

    async def topic(self, name: str, strategy: Strategy = DISK) -> Topic:
        """Create a topic."""
        schema = Schema("s", SchemaKind.BYTES)
        return await self.topics.create(TopicName.parse(name), schema, strategy)

    async def gateway(self, name: str) -> Gateway:
        """Return a gateway that receives from the bus."""
        gateway = Gateway(self, name)
        await self.bus.subscribe(gateway_subject(name), gateway.take)
        return gateway

    async def own(self, epoch: int = 0) -> BundleOwner:
        """Start a new owner, of the next epoch by default."""
        epoch = epoch or self.epoch + 1
        instance_id = f"instance-{epoch}"
        context = OwnerContext(
            self.bundle,
            await claim_journal(self.journal, self.bundle, epoch, instance_id, self.clock),
            self.ports,
            self.catalogue,
            window=self.window,
            metrics=self.metrics,
            on_lost=lambda: self.lost.append(epoch),
            registered=lambda: self.registered,
            clock=self.clock,
        )
        owner = self.owners[epoch] = await BundleOwner.open(context)
        await owner.start()
        self.epoch = max(self.epoch, epoch)
        return owner

    def clock(self) -> float:
        """The time that owners see, in monotonic seconds."""
        return self.now

    async def kill(self, epoch: int = 0) -> None:
        """End an owner as a dying process does: nothing more is written."""
        owner = self.owners.pop(epoch or self.epoch)
        for task in owner._tasks:
            task.cancel()
        await asyncio.gather(*owner._tasks, return_exceptions=True)
        for listener in owner._listeners:
            await listener.close()
        owner.context.dispatcher.close()
        await owner.reader.close()

    async def publish(self, topic: Topic, *texts: str) -> None:
        """Append one frame of a reliable topic to the log."""
        await self.publish_bytes(topic, *(text.encode() for text in texts))

    async def publish_bytes(self, topic: Topic, *messages: bytes) -> None:
        """Append one frame of a reliable topic to the log."""
        number = next(self.frames)
        frame = encode_frame(1, number, [(topic.topic_id, messages)])
        await self.log.append(topic.home, frame, frame_id=make_frame_id(1, number), timeout_s=1)

    async def publish_non_reliable(self, topic: Topic, *texts: str) -> None:
        """Send one frame of a non-reliable topic to the owner."""
        frame = encode_frame(1, next(self.frames), [(topic.topic_id, [text.encode() for text in texts])])
        await self.bus.publish(non_reliable_subject(topic.home), frame)

    async def ask(self, request: Request[R], *, epoch: int = 0) -> R:
        """Send a request to the owner of an epoch, by default the newest."""
        subject = owner_subject(self.bundle, epoch or self.epoch)
        return await OWNER.ask(self.bus, subject, request, timeout_s=PATIENCE_S)

    async def settle(self) -> None:
        """Let the loop run until everything that was started has happened."""
        for _ in range(60):
            await asyncio.sleep(0)

    async def journaled(self) -> None:
        """Wait until everything that was acknowledged is in the journal."""
        await self.settle()
        await self.owners[self.epoch].context.writer.flushed()


@asynccontextmanager
async def open_owner_harness(bundles: int = 1) -> AsyncIterator[OwnerHarness]:
    """A harness over a cluster with a namespace and no topic."""
    store = MemoryMetadata()
    await Namespaces(store).create("default")
    await store.put(keys.LAYOUT, encode_record(Layout(bundles, bundles)))
    harness = OwnerHarness(store, await Catalogue.open(store))
    try:
        yield harness
    finally:
        for epoch in list(harness.owners):
            await harness.kill(epoch)
        await harness.catalogue.close()
        await harness.bus.close()
