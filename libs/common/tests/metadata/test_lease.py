from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.lease import Lease, LeaseClock
from danube_harness.memory.metadata import MemoryMetadata

KEY = "/cluster/register/owner-1"


def test_a_tenure_is_renewed_at_a_third_and_ends_before_the_ttl() -> None:
    tenure = LeaseClock(ttl_s=6, sent_at=100, revision=7)
    assert tenure.renew_at == 102
    assert 104 < tenure.ends_at < 106
    assert tenure.held(tenure.ends_at - 0.001)
    assert not tenure.held(tenure.ends_at)


def test_a_confirmed_renewal_counts_from_when_it_was_sent() -> None:
    slow, quick = LeaseClock(6, 100, 7), LeaseClock(6, 100, 7)
    slow.confirmed(sent_at=102, revision=8)
    quick.confirmed(sent_at=102, revision=8)
    assert slow.ends_at == quick.ends_at == LeaseClock(6, 102, 8).ends_at
    assert slow.revision == 8


def test_a_failed_renewal_is_tried_again_soon_and_does_not_move_the_end() -> None:
    tenure = LeaseClock(6, 100, 7)
    ends_at = tenure.ends_at
    tenure.failed(sent_at=102, now=102.1)
    assert 102.1 < tenure.renew_at < 104
    assert tenure.ends_at == ends_at
    assert tenure.unconfirmed


def test_there_is_time_for_another_renewal_after_one_without_an_answer() -> None:
    tenure = LeaseClock(6, 100, 7)
    sent_at = tenure.renew_at
    tenure.failed(sent_at, sent_at + tenure.patience_s(sent_at))
    assert tenure.patience_s(tenure.renew_at) > 1
    assert tenure.patience_s(tenure.ends_at - 0.5) == pytest.approx(0.5)
    assert tenure.patience_s(tenure.ends_at + 1) == 0


def test_an_own_write_found_later_counts_from_the_first_one_without_an_answer() -> None:
    tenure = LeaseClock(6, 100, 7)
    tenure.failed(sent_at=102, now=102.5)
    tenure.failed(sent_at=103, now=103.5)
    tenure.found_own(revision=9)
    assert tenure.ends_at == LeaseClock(6, 102, 9).ends_at
    assert not tenure.unconfirmed


def test_an_own_write_from_before_moves_the_revision_and_not_the_end() -> None:
    tenure = LeaseClock(6, 100, 7)
    ends_at = tenure.ends_at
    tenure.found_own(revision=9)
    assert tenure.revision == 9
    assert tenure.ends_at == ends_at


@given(
    ttl_s=st.integers(1, 60),
    steps=st.lists(st.tuples(st.sampled_from(["ok", "fail"]), st.floats(0, 70)), max_size=30),
)
def test_a_tenure_never_outlives_the_key_in_the_store(ttl_s: int, steps: list[tuple[str, float]]) -> None:
    now, revision = 0.0, 1
    tenure = LeaseClock(ttl_s, now, revision)
    stored_until = now + ttl_s
    for outcome, answer_takes_s in steps:
        now = max(now, tenure.renew_at)
        if not tenure.held(now):
            break
        sent_at, now = now, now + answer_takes_s
        if outcome == "ok":
            revision += 1
            stored_until = sent_at + ttl_s
            tenure.confirmed(sent_at, revision)
        else:
            tenure.failed(sent_at, now)
        assert tenure.ends_at < stored_until
        assert not tenure.held(stored_until)


async def test_a_lease_outlives_its_ttl_by_renewing() -> None:
    store = MemoryMetadata()
    lease = await Lease.acquire(store, KEY, b"me", 1)
    renewed = 0
    async for change in store.watch("/cluster/", after_revision=lease.revision):
        assert change.value == b"me"
        renewed += 1
        if renewed == 4:
            break
    assert lease.held
    await lease.release()


async def test_a_lease_takes_only_what_is_free_when_told_so() -> None:
    store = MemoryMetadata()
    await store.put(KEY, b"other")
    with pytest.raises(Conflict):
        await Lease.acquire(store, KEY, b"me", 1, expected_revision=0)


async def test_a_lease_is_lost_when_another_writer_replaces_the_key() -> None:
    store = MemoryMetadata()
    lease = await Lease.acquire(store, KEY, b"me", 1)
    revision = await store.put(KEY, b"other")
    await lease.lost.wait()
    assert lease.taken
    assert not lease.held
    await lease.release()
    entry = await store.get(KEY)
    assert entry is not None
    assert (entry.value, entry.revision) == (b"other", revision)


async def test_a_lease_is_lost_by_the_holders_clock_alone() -> None:
    store = MemoryMetadata(lambda: 0.0)  # this store never lets a key go
    mine = store.handle()
    lease = await Lease.acquire(mine, KEY, b"me", 1)
    mine.reachable = False
    await lease.lost.wait()
    assert not lease.taken
    assert await store.get(KEY) is not None
    await lease.release()


async def test_a_lease_survives_a_short_absence_of_the_store() -> None:
    store = Faulty()
    lease = await Lease.acquire(store, KEY, b"me", 2)
    changes = store.watch("/cluster/", after_revision=lease.revision)
    store.to_refuse = 2
    assert (await anext(changes)).value == b"me"
    assert store.to_refuse == 0
    assert lease.held
    await lease.release()


class Faulty(MemoryMetadata):
    """Refuses some puts, and stores others without an answer."""

    to_refuse = 0
    to_lose = 0

    async def put(
        self, key: str, value: bytes, *, expected_revision: int | None = None, ttl_s: float | None = None
    ) -> int:
        if self.to_refuse > 0:
            self.to_refuse -= 1
            raise MetadataUnavailable("refused")
        revision = await super().put(key, value, expected_revision=expected_revision, ttl_s=ttl_s)
        if self.to_lose > 0:
            self.to_lose -= 1
            raise MetadataUnavailable("the answer was lost")
        return revision


async def test_a_lost_answer_to_a_renewal_does_not_lose_the_lease() -> None:
    store = Faulty()
    lease = await Lease.acquire(store, KEY, b"me", 1)
    first = lease.revision
    store.to_lose = 1
    changes = store.watch("/cluster/", after_revision=first)
    assert [(await anext(changes)).revision for _ in range(3)] == [first + 1, first + 2, first + 3]
    assert store.to_lose == 0
    assert lease.held
    await lease.release()
    assert await store.get(KEY) is None


class Silent(MemoryMetadata):
    """Takes one put and never answers it."""

    silent = False

    async def put(
        self, key: str, value: bytes, *, expected_revision: int | None = None, ttl_s: float | None = None
    ) -> int:
        if self.silent:
            self.silent = False
            await asyncio.Event().wait()
        return await super().put(key, value, expected_revision=expected_revision, ttl_s=ttl_s)


async def test_a_renewal_that_never_answers_does_not_lose_the_lease() -> None:
    store = Silent()
    lease = await Lease.acquire(store, KEY, b"me", 2)
    store.silent = True
    changes = store.watch("/cluster/", after_revision=lease.revision)
    assert (await anext(changes)).value == b"me"
    assert not store.silent
    assert lease.held
    await lease.release()


async def test_a_released_key_is_free_at_once() -> None:
    store = MemoryMetadata()
    lease = await Lease.acquire(store, KEY, b"me", 60)
    await lease.release()
    await lease.release()
    assert await store.get(KEY) is None
    assert not lease.held
    assert not lease.lost.is_set()
