"""A topic's messages through log, purges, segments and owners that die, compared with a plain list."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.cluster.records import Topic
from danube_common.wire.owner.sessions import Detach
from danube_harness.services.fake_archive import FakeArchive, open_fake_archive
from danube_harness.services.owner_harness import PATIENCE_S, Gateway, OwnerHarness, open_owner_harness
from danube_topic_owner.catchup import history_feed

ACTIONS = st.lists(
    st.sampled_from(
        [
            *["publish"] * 6,
            *["settle"] * 4,
            *["seal", "purge", "seal and purge"],
            *["detach", "attach", "ack", "ack"],
            *["kill", "pause", "storage"],
        ]
    ),
    min_size=5,
    max_size=60,
)


class Play:
    """One reader of one topic in a bundle with another busy topic."""

    def __init__(self, harness: OwnerHarness, fake_archive: FakeArchive, random: Random) -> None:
        self.harness = harness
        self.fake_archive = fake_archive
        self.random = random
        self.published: list[str] = []
        self.acked: dict[int, int] = {}
        """How many deliveries were seen when a position was acknowledged."""
        self.session = 0
        self.storage_up = True
        self.topic: Topic
        self.other: Topic
        self.gateway: Gateway
        self.consumer = 0

    async def open(self) -> None:
        harness = self.harness
        await harness.own()
        self.gateway = await harness.gateway("g")
        self.topic, self.other = await harness.topic("/default/t"), await harness.topic("/default/other")
        self.consumer = await self.gateway.subscribe(self.topic.name, "s")

    async def act(self, action: str) -> None:
        harness = self.harness
        match action:
            case "publish":
                texts = [f"{len(self.published) + i}" for i in range(self.random.randint(1, 3))]
                if self.random.random() < 0.3:
                    await harness.publish(self.other, "x")
                self.published += texts
                await harness.publish(self.topic, *texts)
            case "settle":
                await harness.settle()
            case "seal":
                await self.seal()
            case "purge":
                await self.fake_archive.purge()
            case "seal and purge":
                await self.seal()
                await self.fake_archive.purge()
            case "detach" if self.session:
                await harness.ask(Detach(self.consumer, self.session))
                self.session = 0
            case "attach" if not self.session:
                self.session = await self.gateway.attach(self.consumer)
            case "ack":
                await harness.settle()
                positions = [p for p in self.gateway.positions() if p not in self.acked]
                chosen = self.random.sample(positions, self.random.randint(0, len(positions)))
                self.acked |= dict.fromkeys(chosen, len(self.gateway.positions()))
                await self.gateway.ack(self.topic.name, "s", chosen)
            case "kill":
                await harness.journaled()
                await harness.kill()
                await harness.own()
                self.session = 0
            case "pause":
                await harness.owners[harness.epoch].reader.close()
            case "storage":
                await (
                    self.fake_archive.storage.stop() if self.storage_up else self.fake_archive.storage.start()
                )
                self.storage_up = not self.storage_up

    async def seal(self) -> None:
        first = self.fake_archive.manifest.archived_through + 1
        last = (await self.harness.log.bounds(self.harness.bundle)).last_sequence
        if first <= last:
            both = (self.topic.topic_id, self.other.topic_id)
            through = self.random.randint(first, last)
            await self.fake_archive.seal(through=through, shared=both if self.random.random() < 0.5 else ())

    async def end(self) -> None:
        """Everything works, and every message is taken."""
        if not self.storage_up:
            await self.act("storage")
        await self.act("attach")
        taken = {text for position, text in self.seen() if position in self.acked}
        wanted = set(self.published)
        async with asyncio.timeout(PATIENCE_S):
            while {text for _, text in self.seen()} | taken < wanted:
                self.harness.owners[self.harness.epoch].reader.check()
                await self.gateway.ack(self.topic.name, "s", self.gateway.positions())
                await asyncio.sleep(0)

    def seen(self) -> list[tuple[int, str]]:
        return [(position, data.decode()) for position, data in self.gateway.entries()]


@given(ACTIONS, st.integers(0, 1 << 32))
def test_every_message_comes_in_order_and_none_twice_without_cause(actions: list[str], seed: int) -> None:
    async def scenario() -> None:
        async with open_owner_harness() as harness, open_fake_archive(harness) as fake_archive:
            play = Play(harness, fake_archive, Random(seed))
            await play.open()
            harness.log.turns = lambda: play.random.randint(0, 2)
            for action in actions:
                await play.act(action)
            await play.end()
            by_session: dict[int, list[int]] = {}
            for delivery in play.gateway.deliveries:
                by_session.setdefault(delivery.session, []).extend(p for p, _ in delivery.entries())
            for positions in by_session.values():
                assert positions == sorted(set(positions))
            seen = play.gateway.positions()
            for position, count in play.acked.items():
                assert position not in seen[count:]
            texts = dict(play.seen())
            assert [texts[position] for position in sorted(texts)] == play.published

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(history_feed, "RETRY_WAIT_S", 0.001)
        patched.setattr(history_feed, "RETRY_WAIT_MAX_S", 0.001)
        asyncio.run(scenario())
