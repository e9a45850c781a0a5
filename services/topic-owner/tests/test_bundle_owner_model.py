from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from danube_common.cluster.records import Topic
from danube_common.model.failure_policy import FailurePolicy
from danube_common.model.position import sequence_of
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.acknowledgements import Nack
from danube_common.wire.owner.sessions import Credit, Detach, SessionState, Sync
from danube_common.wire.owner.subscriptions import SetFailurePolicy
from danube_harness.services.owner_harness import (
    EXCLUSIVE,
    PATIENCE_S,
    PLENTY,
    SHARED,
    Gateway,
    OwnerHarness,
    open_owner_harness,
)

NEVER_POISON = FailurePolicy(max_redelivery_count=1_000_000, base_redelivery_delay_ms=2000)
STEPS = st.lists(
    st.sampled_from(
        [
            *("publish", "publish", "publish", "ack", "ack", "nack", "time"),
            *("detach", "attach", "grant", "sync", "kill", "turns"),
        ]
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([EXCLUSIVE, SHARED, SubscriptionType.FAILOVER]), st.integers(0, 1 << 32))
def test_nothing_is_lost_or_reordered_whatever_happens_when(
    steps: list[str], kind: SubscriptionType, seed: int
) -> None:
    """Publishing, acknowledging, failures, streams that come and go, owners that die, in any order."""
    asyncio.run(_anything(steps, kind, Random(seed)))


class Anything:
    """A topic with its consumers, and what each random step does to them."""

    def __init__(self, harness: OwnerHarness, gateway: Gateway, topics: list[Topic], random: Random) -> None:
        self.harness, self.gateway, self.random = harness, gateway, random
        self.topic, self.noise = topics
        self.consumers: list[int] = []
        self.sessions: dict[int, tuple[int, int]] = {}
        self.published: list[str] = []
        self.acked: set[int] = set()
        self.failures = 0
        self.refusals = 0
        """Deliveries that may have failed: their messages come again in the same session."""

    async def step(self, step: str) -> None:
        consumer = self.random.choice(self.consumers)
        match step:
            case "publish":
                await self.publish()
            case "ack":
                await self.acknowledge_some()
            case "detach" if consumer in self.sessions:
                await self.harness.ask(Detach(consumer, self.sessions.pop(consumer)[0]))
                self.failures += 1
            case "attach":
                self.failures += consumer in self.sessions
                await self.attach(consumer, self.random.randint(0, 8))
            case "grant" if consumer in self.sessions:
                await self.grant(consumer, self.random.randint(0, 20))
            case "sync":
                states = [SessionState(c, s, total, PLENTY) for c, (s, total) in self.sessions.items()]
                assert (await self.harness.ask(Sync("g", states))).unknown == []
            case "nack" if positions := self.gateway.positions():
                await self.nack(self.random.choice(positions))
            case "time":
                self.harness.now += self.random.choice([1, 40])
                self.refusals += 1
            case "kill":
                await self.replace_owner()
            case "turns":
                await self.harness.settle()

    async def attach(self, consumer: int, credit: int) -> None:
        self.sessions[consumer] = (await self.gateway.attach(consumer, messages=credit), credit)

    async def grant(self, consumer: int, more: int) -> None:
        session, total = self.sessions[consumer]
        self.sessions[consumer] = (session, total + more)
        await self.harness.ask(Credit([SessionState(consumer, session, total + more, PLENTY)]))

    async def publish(self) -> None:
        texts = [str(len(self.published) + n) for n in range(self.random.randint(1, 12))]
        self.published.extend(texts)
        await self.harness.publish(self.topic, *texts)
        if self.random.randint(0, 1):
            await self.harness.publish(self.noise, "x")

    async def acknowledge_some(self) -> None:
        open_ = [p for p in self.gateway.positions() if p not in self.acked]
        some = open_[: self.random.randint(0, 5)] + open_[-self.random.randint(1, 5) :]
        self.acked.update(some)
        await self.gateway.ack(self.topic.name, "s", [*some, *some[:1]])

    async def nack(self, position: int) -> None:
        last = position + self.random.randint(0, 3)
        nack = Nack(self.topic.name, "s", position, last, delay_ms=self.random.choice([0, 5000]))
        await self.harness.ask(nack)
        self.refusals += 1

    async def replace_owner(self) -> None:
        await self.harness.kill()
        await self.harness.own()
        self.sessions.clear()
        self.acked.clear()  # what the last batch held is acknowledged again when it comes again
        self.failures += 1

    async def drain(self) -> None:
        """Every consumer takes and acknowledges all there is."""
        await self.harness.settle()
        for consumer in self.consumers:
            if consumer not in self.sessions:
                await self.attach(consumer, 0)
        gateway = self.gateway
        async with asyncio.timeout(PATIENCE_S):
            while len(set(gateway.texts())) < len(self.published) or set(gateway.positions()) - self.acked:
                open_ = [p for p in gateway.positions() if p not in self.acked]
                self.acked.update(open_)
                await gateway.ack(self.topic.name, "s", open_)
                self.harness.now += 10
                for consumer in self.consumers:
                    await self.grant(consumer, 7)
                await self.harness.journaled()


async def _anything(steps: list[str], kind: SubscriptionType, random: Random) -> None:
    async with open_owner_harness() as harness:
        harness.log.turns = lambda: random.randint(0, 3)
        await harness.own()
        gateway = await harness.gateway("g")
        topics = [await harness.topic("/default/t"), await harness.topic("/default/noise")]
        world = Anything(harness, gateway, topics, random)
        for name in "a" if kind is EXCLUSIVE else "ab":
            world.consumers.append(await gateway.subscribe(topics[0].name, "s", kind, name))
        await harness.ask(SetFailurePolicy(topics[0].name, "s", NEVER_POISON))
        for step in steps:
            await world.step(step)
        await world.drain()
        assert set(gateway.texts()) == set(world.published)
        assert all(text == str(offset) for text, offset in gateway.offsets())
        if not world.failures and not world.refusals:
            assert Counter(gateway.texts()) == Counter(world.published)
            assert kind is SHARED or gateway.texts() == world.published
        _check_order(gateway, kind, again=world.refusals > 0)
        await harness.journaled()
        await harness.kill()
        await harness.own()
        for consumer in world.consumers:
            await world.attach(consumer, 100)
        seen = len(gateway.texts())
        await harness.publish(world.topic, "the last")
        await gateway.until(lambda: gateway.texts()[-1:] == ["the last"])
        assert gateway.texts()[seen:] == ["the last"], "what was acknowledged is not sent again"


def _check_order(gateway: Gateway, kind: SubscriptionType, *, again: bool) -> None:
    """Within a session positions only rise, and where they are of one text, it is always the same.

    ``again``: what failed comes again, and in order before what was never sent.
    """
    by_session: dict[int, list[int]] = {}
    for delivery in gateway.deliveries:
        by_session.setdefault(delivery.session, []).extend(position for position, _ in delivery.entries())
    for positions in by_session.values():
        first_time = list(dict.fromkeys(positions))
        assert again or first_time == positions
        if kind is not SHARED:
            assert first_time == sorted(first_time)
    texts = dict(gateway.entries())
    assert all(texts[position] == message for position, message in gateway.entries())
    assert all(sequence_of(position) > 0 for position in texts)
