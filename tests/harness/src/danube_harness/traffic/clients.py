"""Writers and readers that go on whatever fails, and remember what they sent and received, and when."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from danube_client import (
    Client,
    ClientError,
    Reliable,
    Retention,
    Retry,
    Schema,
    Storage,
    SubscriptionType,
    connect,
)
from danube_client.producer import IN_FLIGHT_MAX
from danube_harness.traffic.history import Receipt, Report, check
from danube_harness.traffic.unwilling import Answer, Answers, key_of

RETRY = Retry(attempts_max=200, first_s=0.1, max_s=1.0)
"""Longer than any fault lasts: an error in spite of these retries is a finding."""
CALL_TIMEOUT_S = 10.0
HEALTH_INTERVAL_S = 1.0
TICK_S = 0.1
"""How often a writer sends what its rate asks for."""
PAUSE_AFTER_ERROR_S = 0.5
FLUSH_S_MAX = 60.0
STAYS_FOR = 400
"""A failing reader ends its consumer after so many messages, and comes back."""
BIG_PART = 0.03
"""So many payloads have up to BIG_BYTES_MAX, the others up to SMALL_BYTES_MAX."""
SMALL_BYTES_MAX = 1500
TICK_BYTES_MAX = 200
BIG_BYTES_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Reading:
    """One subscription to be read.

    Attributes:
        name: of the subscription.
        type: how its readers share the messages.
        readers: how many.
        starts_at: it is created when this part of the run is over, and gets all from the earliest.
        stuck: its first message is never acknowledged.
        failing: its readers refuse and forget messages (`unwilling.answer_to`), and come and go.
    """

    name: str
    type: SubscriptionType
    readers: int = 1
    starts_at: float = 0.0
    stuck: bool = False
    failing: bool = False


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic's traffic.

    Attributes:
        name: ``/namespace/topic``.
        strategy: how it is kept.
        writers: how many write to it.
        in_flight_max: of each writer. With more than one, a writer's own repeats may change its order: then
            it is only asked that all who read alone see the same.
        readings: its subscriptions.
        survives_nats: what was acknowledged is kept when the NATS server ends.
        per_s: messages that each writer sends in a second, as long as there are answers.
        bytes_max: of nearly all payloads; BIG_PART of them have up to BIG_BYTES_MAX if these do.
        streaming: its clients use native streaming. Its writers are idempotent: whatever is in flight, each
            message is to be stored once and in its writer's order.
        dead_letters: dead letters of other topics come here, too.
    """

    name: str
    strategy: Reliable
    readings: Sequence[Reading]
    writers: int = 1
    in_flight_max: int = 1
    survives_nats: bool = True
    per_s: float = 10.0
    bytes_max: int = SMALL_BYTES_MAX
    streaming: bool = False
    dead_letters: bool = False


EXCLUSIVE = Reading("exclusive", SubscriptionType.EXCLUSIVE)
SHARED = Reading("shared", SubscriptionType.SHARED, readers=3)
FAILOVER = Reading("failover", SubscriptionType.FAILOVER, readers=2)
STUCK = Reading("stuck", SubscriptionType.SHARED, stuck=True)
LATE = Reading("late", SubscriptionType.EXCLUSIVE, starts_at=0.7)
KEYED = Reading("keyed", SubscriptionType.KEY_SHARED, readers=3, failing=True)
FAILING = Reading("failing", SubscriptionType.SHARED, readers=2, failing=True)

KEPT_S = 7 * 24 * 3600
"""Longer than a run: late readers get everything."""
DEAD_LETTERS = "/default/refused"
DISK = Reliable(storage=Storage.DISK, segment_size_mib=1, retention_period_s=KEPT_S)
UNTIL_ACKNOWLEDGED = Reliable(
    storage=Storage.DISK, segment_size_mib=1, retention=Retention.UNTIL_ACKNOWLEDGED
)
OBJECTS = Reliable(storage=Storage.S3, segment_size_mib=1, retention_period_s=KEPT_S)
MEMORY = Reliable(storage=Storage.MEMORY, segment_size_mib=1)
TOPICS = (
    Topic("/default/orders", UNTIL_ACKNOWLEDGED, (EXCLUSIVE, SHARED), writers=2),
    Topic("/default/invoices", DISK, (EXCLUSIVE, FAILOVER)),
    Topic("/default/parcels", DISK, (EXCLUSIVE, LATE), writers=2, in_flight_max=IN_FLIGHT_MAX),
    Topic("/default/receipts", OBJECTS, (EXCLUSIVE, LATE)),
    Topic("/default/streams", DISK, (EXCLUSIVE, FAILOVER, SHARED), writers=2, per_s=60.0, streaming=True),
    Topic(DEAD_LETTERS, DISK, (EXCLUSIVE,), streaming=True, dead_letters=True),
    Topic("/default/accounts", UNTIL_ACKNOWLEDGED, (KEYED,), writers=2, per_s=20.0, streaming=True),
    Topic("/default/tasks", DISK, (FAILING,), per_s=20.0, streaming=True),
    Topic("/default/glances", MEMORY, (EXCLUSIVE,), survives_nats=False),
)


def mass(per_s: float) -> Topic:
    """A topic with two writers that send ``per_s`` small messages a second, each delivered twice."""
    return Topic(
        "/default/ticks",
        UNTIL_ACKNOWLEDGED,
        (EXCLUSIVE, STUCK),
        writers=2,
        in_flight_max=IN_FLIGHT_MAX,
        per_s=per_s / 2,
        bytes_max=TICK_BYTES_MAX,
    )


def payload(writer: str, number: int, bytes_max: int = SMALL_BYTES_MAX) -> bytes:
    """A message that shows whose and which it is and whether it is whole; its size follows from that."""
    chance = random.Random(f"{writer} {number}")
    big = bytes_max == SMALL_BYTES_MAX and chance.random() < BIG_PART
    size = chance.randint(0, BIG_BYTES_MAX if big else bytes_max)
    head = f"{writer} {number} ".encode()
    return (head * (size // len(head) + 1))[: max(size, len(head))]


def receipt(content: bytes, bytes_max: int = SMALL_BYTES_MAX) -> Receipt:
    """Who wrote it and as which; a writer that nobody is called by if it is not what was sent."""
    writer, _, rest = content.partition(b" ")
    digits = rest.partition(b" ")[0]
    if digits.isdigit() and content == payload(writer.decode(errors="replace"), int(digits), bytes_max):
        return writer.decode(), int(digits)
    return f"changed: {content[:60]!r}", len(content)


@dataclass(slots=True)
class Writer:
    """Numbered messages to one topic.

    Attributes:
        sent: how many were handed over; they are numbered from 1.
        acknowledged: the numbers the platform said it has.
        acknowledged_at: when, monotonic.
        errors: how the others failed, counted.
    """

    name: str
    topic: Topic
    addresses: Sequence[str]
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    acknowledged_at: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    async def run(self, opened: asyncio.Event, stop: asyncio.Event) -> None:
        """Write until told to stop, then wait for the answers, FLUSH_S_MAX at most."""
        async with _client(self.addresses, streaming=self.topic.streaming) as client:
            producer = await client.producer(
                self.topic.name,
                name=self.name,
                schema=Schema.bytes(),
                strategy=self.topic.strategy,
                in_flight_max=None if self.topic.streaming else self.topic.in_flight_max,
            )
            opened.set()
            try:
                while not stop.is_set():
                    for _ in range(max(round(self.topic.per_s * TICK_S), 1)):
                        self.sent += 1
                        content = payload(self.name, self.sent, self.topic.bytes_max)
                        key = key_of((self.name, self.sent)) if self.topic.streaming else None
                        outcome = await producer.post(content, key=key)
                        outcome.add_done_callback(partial(self._settled, self.sent))
                    await asyncio.sleep(TICK_S)
                async with asyncio.timeout(FLUSH_S_MAX):
                    await producer.flush()
            except TimeoutError:
                self.errors["no answer to the last messages"] += 1
            finally:
                await producer.abort()

    def _settled(self, number: int, outcome: asyncio.Future[int]) -> None:
        error = None if outcome.cancelled() else outcome.exception()
        if outcome.cancelled() or error is not None:
            self.errors[f"{type(error).__name__}: {error}"] += 1
            return
        self.acknowledged.add(number)
        self.acknowledged_at.append(time.monotonic())


@dataclass(slots=True)
class Reader:
    """One consumer of a subscription.

    Attributes:
        received: in its order.
        received_at: when each came, monotonic.
        errors: what ended its consumers, counted; each time it subscribed again.
    """

    name: str
    subscription: Subscription
    addresses: Sequence[str]
    received: list[Receipt] = field(default_factory=list)
    received_at: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    async def run(self, delay_s: float = 0.0) -> None:
        """Subscribe after ``delay_s``; read and acknowledge until cancelled."""
        await asyncio.sleep(delay_s)
        reading = self.subscription.reading
        while True:
            stream = self.subscription.answers.opens()
            try:
                async with (
                    _client(self.addresses, streaming=self.subscription.topic.streaming) as client,
                    client.consumer(
                        self.subscription.topic.name,
                        reading.name,
                        name=self.name,
                        type=reading.type,
                    ) as consumer,
                ):
                    async for message in consumer:
                        self.received.append(receipt(message.payload, self.subscription.topic.bytes_max))
                        self.received_at.append(time.monotonic())
                        got = self.received[-1]
                        self.subscription.take(got, message.position)
                        if not reading.failing:
                            if not (reading.stuck and got == self.received[0]):
                                await consumer.post_ack(message)
                            continue
                        match self.subscription.answers.answer(got, message.redelivery_count, stream):
                            case Answer.ACK:
                                await consumer.post_ack(message)
                            case Answer.NACK:
                                await message.nack(reason="refused by the test")
                        if len(self.received) % STAYS_FOR == 0:
                            break
            except ClientError as error:
                self.errors[f"{type(error).__name__}: {error}"] += 1
            await asyncio.sleep(PAUSE_AFTER_ERROR_S)


@dataclass(slots=True)
class Subscription:
    """What the readers of a subscription have received together.

    Attributes:
        progressed_at: when a message came that was not there before, monotonic.
        answers: what its readers said to messages, if they are failing.
        positions: where each message is stored, as native streaming tells.
        stored_twice: messages that came from more than one position.
    """

    topic: Topic
    reading: Reading
    readers: list[Reader] = field(default_factory=list)
    progressed_at: list[float] = field(default_factory=list)
    answers: Answers = field(default_factory=Answers)
    positions: dict[Receipt, int] = field(default_factory=dict)
    stored_twice: set[Receipt] = field(default_factory=set)
    _got: set[Receipt] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """Topic and subscription."""
        return f"{self.topic.name} {self.reading.name}"

    @property
    def ordered(self) -> bool:
        """Whether each writer's messages must come in the order they were sent."""
        return self.reading.type in (SubscriptionType.EXCLUSIVE, SubscriptionType.FAILOVER) and (
            self.topic.streaming or self.topic.in_flight_max == 1
        )

    @property
    def misplaced(self) -> list[Receipt]:
        """Messages that are stored after a later one of their writer."""
        highest: dict[str, int] = {}
        found: list[Receipt] = []
        if self.topic.dead_letters:
            return found  # they come in the order in which they fail
        for writer, number in sorted(self.positions, key=self.positions.__getitem__):
            if number < highest.get(writer, 0):
                found.append((writer, number))
            highest[writer] = max(number, highest.get(writer, 0))
        return found

    def take(self, got: Receipt, position: int = 0) -> None:
        """A reader received this from a position; 0 if it does not know."""
        if position and self.positions.setdefault(got, position) != position:
            self.stored_twice.add(got)
        if got not in self._got:
            self._got.add(got)
            self.progressed_at.append(time.monotonic())
        self._changed.set()

    def has(self, wanted: set[Receipt]) -> bool:
        """Whether all of these were received."""
        return wanted <= self._got

    def unsettled(self, wanted: set[Receipt], dead: Subscription) -> set[Receipt]:
        """What of these failing readers have not acknowledged and is no dead letter either."""
        return wanted - self.answers.acknowledged - dead._got

    async def until_changed(self) -> None:
        """Returns when the next message comes, new or not."""
        self._changed.clear()
        await self._changed.wait()

    def report(self, writers: Iterable[Writer]) -> Report:
        """The reconciliation with what the topic's writers sent."""
        own = [writer for writer in writers if writer.topic is self.topic]
        names = {writer.name for writer in own}
        received = {reader.name: reader.received for reader in self.readers}
        if self.topic.dead_letters:
            received = {
                name: [each for each in those if each[0] in names] for name, those in received.items()
            }
        return check(
            {writer.name: range(1, writer.sent + 1) for writer in own},
            received,
            {writer.name: writer.acknowledged for writer in own},
        )


def longest_gap_s(moments: Sequence[float], since: float, until: float) -> float:
    """The longest time between ``since`` and ``until`` without one of the ascending moments."""
    inside = [since, *(moment for moment in moments if since < moment < until), until]
    return max(later - earlier for earlier, later in itertools.pairwise(inside))


def _client(addresses: Sequence[str], *, streaming: bool) -> Client:
    return connect(
        *addresses,
        retry=RETRY,
        call_timeout_s=CALL_TIMEOUT_S,
        health_interval_s=HEALTH_INTERVAL_S,
        streaming=streaming,
    )
