"""An owner whose registration the metadata store does not confirm: its journal decides (ADR 0006)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from danube_common.errors import LogUnavailable
from danube_common.model.bundle import Bundle
from danube_harness.services.owner_harness import PATIENCE_S, Gateway, OwnerHarness
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.context import JOURNAL_LEASE_S
from danube_topic_owner.journal import writer as journal_writer
from danube_topic_owner.journal.events import CursorMoved, decode_events
from danube_topic_owner.journal.writer import HEARTBEAT_S


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "CURSOR_INTERVAL_S", 0.001)
    monkeypatch.setattr(journal_writer, "RETRY_WAIT_S", 0.001)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the journal tells nobody what was written
            await asyncio.sleep(0.001)


async def records(harness: OwnerHarness) -> list[bytes]:
    return [record.data async for record in harness.journal.replay(harness.bundle)]


async def pause(harness: OwnerHarness, seconds: float) -> None:
    """The owner's process stands still for so long, with nothing under way."""
    await harness.journaled()
    harness.now += seconds


async def test_the_journals_answers_keep_a_bundle_in_doubt_delivering(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    harness.registered = False
    for number in range(5):
        await pause(harness, JOURNAL_LEASE_S)
        gateway.deliveries.clear()
        await harness.publish(topic, f"{number}")
        await gateway.until(lambda: bool(gateway.texts()))
    assert harness.lost == []


async def test_an_owner_that_nobody_answers_delivers_nothing_until_the_journal_does(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    attempts = 0

    async def silent(_bundle: Bundle, _data: bytes, *, expected_sequence: int, reserve: bool) -> int:
        nonlocal attempts
        attempts += 1
        raise LogUnavailable(f"not now, {expected_sequence} {reserve}")

    await pause(harness, JOURNAL_LEASE_S)
    with monkeypatch.context() as away:
        away.setattr(harness.journal, "append", silent)
        harness.registered = False
        await harness.publish(topic, "m")
        await until(lambda: attempts > 2)
        assert gateway.texts() == []
        assert not owner.context.may_deliver()
    await gateway.until(lambda: gateway.texts() == ["m"])


async def test_an_ack_is_journaled_while_deliveries_are_not_allowed(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await harness.topic("/default/t")
    consumer = await gateway.subscribe(topic.name, "s")
    await gateway.attach(consumer)
    await harness.publish(topic, "m")
    await gateway.until(lambda: gateway.texts() == ["m"])
    await harness.journaled()
    monkeypatch.setattr(owner.context.dispatcher, "_may_deliver", lambda: False)
    [position] = gateway.positions(consumer)
    written = len(await records(harness))
    await gateway.ack(topic.name, "s", [position])
    await harness.publish(topic, "not delivered")
    await harness.journaled()
    events = [event for data in (await records(harness))[written:] for event in decode_events(data)]
    [moved] = [event for event in events if isinstance(event, CursorMoved)]
    assert (moved.subscription, moved.mark_delete >= position) == ("s", True)
    assert gateway.texts() == ["m"]


async def test_the_last_answer_of_the_journal_counts_for_as_long_as_a_registration_would(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_bundle: Bundle, _data: bytes, *, expected_sequence: int, reserve: bool) -> int:
        raise LogUnavailable(f"not now, {expected_sequence} {reserve}")

    await pause(harness, 0)
    confirmed_at = owner.context.writer.confirmed_at
    monkeypatch.setattr(harness.journal, "append", silent)
    harness.registered = False
    harness.now = confirmed_at + JOURNAL_LEASE_S * 0.99
    assert owner.context.may_deliver()
    harness.now = confirmed_at + JOURNAL_LEASE_S
    assert not owner.context.may_deliver()


async def test_a_paused_owner_that_wakes_after_a_takeover_delivers_nothing_and_gives_up(
    harness: OwnerHarness, owner: BundleOwner, gateway: Gateway
) -> None:
    topic = await harness.topic("/default/t")
    await gateway.attach(await gateway.subscribe(topic.name, "s"))
    await pause(harness, 2 * JOURNAL_LEASE_S)
    harness.registered = False
    await harness.own(2)
    await harness.publish(topic, "m")
    await until(lambda: harness.lost == [1])
    assert [delivery for delivery in gateway.deliveries if delivery.epoch == 1] == []


async def test_an_idle_owner_in_doubt_learns_of_a_takeover_by_itself(
    harness: OwnerHarness, owner: BundleOwner
) -> None:
    await harness.journaled()
    await harness.own(2)
    await harness.settle()
    assert harness.lost == []
    harness.registered = False
    harness.now += HEARTBEAT_S
    await until(lambda: harness.lost == [1])


async def test_an_idle_owner_writes_only_while_it_is_in_doubt_and_then_nothing_that_changes_its_state(
    harness: OwnerHarness, owner: BundleOwner
) -> None:
    await harness.journaled()
    await until(lambda: owner.context.writer._bytes_since_snapshot == 0)
    before = await records(harness)
    facts = list(owner.context.state.snapshot())[1:]
    harness.now += 10 * HEARTBEAT_S
    await harness.journaled()
    assert await records(harness) == before
    harness.registered = False
    await until(lambda: owner.context.writer.confirmed_at == harness.now)
    written = (await records(harness))[len(before) :]
    assert [decode_events(data) for data in written] == [[]]
    await harness.own(2)
    assert list(harness.owners[2].context.state.snapshot())[1:] == facts
