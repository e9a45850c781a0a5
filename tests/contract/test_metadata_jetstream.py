"""What only the JetStream store has to prove: lost answers, broken feeds, the bucket's configuration."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from danube_common.errors import Conflict, MetadataUnavailable, RequestTimeout
from danube_common.metadata import jetstream_feed
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, Entry, WatchLost
from danube_common.nats.connection import Connection
from danube_harness.servers.nats_server import NatsServer

PATIENCE_S = 20.0


class LossyConnection(Connection):
    """Loses what its plan says of the next writes to the bucket: their answers, or the requests."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: deque[str] = deque()

    async def call(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        loses = self.plan.popleft() if self.plan and subject.startswith("$KV.") else "nothing"
        if loses == "request":
            raise RequestTimeout("the request is lost")
        answer = await super().call(subject, payload, timeout_s=timeout_s, headers=headers)
        if loses == "answer":
            raise RequestTimeout("the answer is lost")
        return answer


async def until_the_end(changes: AsyncIterator[Change]) -> None:
    async for _ in changes:
        pass


@pytest_asyncio.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[LossyConnection]:
    connection = await LossyConnection.open(
        nats_server.url, name="lossy", reconnect_wait_s=0.05, connect_timeout_s=5.0
    )
    assert isinstance(connection, LossyConnection)
    yield connection
    await connection.shut()


@pytest_asyncio.fixture
async def store(connection: LossyConnection) -> AsyncIterator[JetStreamMetadata]:
    store = await JetStreamMetadata.open(connection)
    yield store
    await store.close()


@pytest.mark.parametrize("expected", ["absent", "present", "anything"])
async def test_a_stored_put_whose_answer_is_lost_succeeds(
    expected: str, store: JetStreamMetadata, connection: LossyConnection
) -> None:
    expected_revision = None if expected == "anything" else 0
    if expected == "present":
        expected_revision = await store.put("/a", b"0")
    connection.plan.append("answer")
    revision = await store.put("/a", b"1", expected_revision=expected_revision)
    assert not connection.plan
    assert await store.get("/a") == Entry("/a", b"1", revision)


async def test_a_creation_over_a_deletion_whose_answer_is_lost_succeeds(
    store: JetStreamMetadata, connection: LossyConnection
) -> None:
    await store.put("/a", b"0")
    await store.delete("/a")
    # First the server tells that a marker is there; what is put over the marker has its answer lost.
    connection.plan.extend(["nothing", "answer"])
    revision = await store.put("/a", b"1", expected_revision=0)
    assert not connection.plan
    assert await store.get("/a") == Entry("/a", b"1", revision)


async def test_a_put_that_is_lost_on_its_way_is_unavailable_and_not_a_conflict(
    store: JetStreamMetadata, connection: LossyConnection
) -> None:
    connection.plan.append("request")
    with pytest.raises(MetadataUnavailable):
        await store.put("/a", b"1", expected_revision=0)
    assert await store.get("/a") is None


async def test_the_other_writers_value_is_never_taken_for_ours(
    store: JetStreamMetadata, connection: LossyConnection
) -> None:
    revision = await store.put("/a", b"same")
    connection.plan.append("request")
    with pytest.raises(MetadataUnavailable):
        await store.put("/a", b"same", expected_revision=revision)
    with pytest.raises(Conflict):
        await store.put("/a", b"same", expected_revision=0)


async def test_a_delete_whose_answer_is_lost_succeeds(
    store: JetStreamMetadata, connection: LossyConnection
) -> None:
    revision = await store.put("/a", b"1")
    connection.plan.append("answer")
    assert await store.delete("/a", expected_revision=revision)
    assert await store.get("/a") is None


async def test_a_reader_that_is_too_slow_still_sees_the_last_of_everything(
    store: JetStreamMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_feed, "UNREAD_MESSAGES_MAX", 3)
    first = await store.put("/a/0", b"")
    seen: dict[str, bytes | None] = {}
    async with (
        asyncio.timeout(PATIENCE_S),
        aclosing(store.watch("/a/", after_revision=first - 1)) as changes,
    ):
        assert (await anext(changes)).key == "/a/0"
        for n in range(1, 40):
            await store.put(f"/a/{n}", str(n).encode())
        await store.delete("/a/1")
        while len(seen) < 39 or seen["/a/1"] is not None:
            change = await anext(changes)
            seen[change.key] = change.value
    assert seen == {f"/a/{n}": str(n).encode() if n > 1 else None for n in range(1, 40)}


async def test_a_consumer_that_vanishes_is_made_anew(
    store: JetStreamMetadata, connection: LossyConnection
) -> None:
    first = await store.put("/a/0", b"")
    jetstream = connection.jetstream()
    async with asyncio.timeout(PATIENCE_S), aclosing(store.watch("/a/", after_revision=first)) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        while not (consumers := await jetstream.consumers_info("KV_danube")):  # noqa: ASYNC110 - asks the server
            await asyncio.sleep(0)
        await jetstream.delete_consumer("KV_danube", consumers[0].name)
        second = await store.put("/a/1", b"")
        assert await waiting == Change("/a/1", b"", second)


async def test_a_watch_that_was_away_for_longer_than_deletions_are_kept_is_lost(
    connection: LossyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_feed, "UNREAD_MESSAGES_MAX", 1)
    store = await JetStreamMetadata.open(connection, bucket="forgetful", marker_ttl_s=1)
    for n in range(3):
        await store.put(f"/a/{n}", b"")
    changes = store.watch("/a/", after_revision=0)
    async with asyncio.timeout(PATIENCE_S), aclosing(changes):
        assert (await anext(changes)).key == "/a/0"
        await store.delete("/a/2")

        async def messages(stream: str) -> int:
            return (await connection.jetstream().stream_info(stream)).state.messages

        while await messages("KV_forgetful") > 2:  # noqa: ASYNC110 - nobody is told that a marker is gone
            await asyncio.sleep(0.05)
        await store.put("/a/3", b"")
        with pytest.raises(WatchLost):
            await until_the_end(changes)
    await store.close()


async def test_a_lifetime_that_ends_while_the_server_is_down_is_seen(
    nats_server: NatsServer, store: JetStreamMetadata
) -> None:
    mirror = await Mirror.open(store, "/a/")
    await store.put("/a/kept", b"1")
    revision = await store.put("/a/lease", b"1", ttl_s=1)
    await mirror.catch_up(revision, PATIENCE_S)
    await nats_server.kill()
    await asyncio.sleep(1)
    await nats_server.restart()
    await mirror.wait_for(lambda m: m.get("/a/lease") is None, PATIENCE_S)
    assert [entry.key for entry in mirror.entries()] == ["/a/kept"]
    await mirror.close()


async def test_the_bucket_is_read_by_its_leader_only(
    store: JetStreamMetadata, connection: LossyConnection
) -> None:
    await JetStreamMetadata.open(connection)
    config = (await connection.jetstream().stream_info("KV_danube")).config
    assert not config.allow_direct
    assert config.storage == "file"
    assert config.max_msgs_per_subject == 1
    assert config.allow_msg_ttl


async def test_a_cancelled_call_ends_even_when_its_answer_comes_at_that_moment(
    store: JetStreamMetadata,
) -> None:
    async def forever() -> None:
        while True:
            await store.get("/a")

    async with asyncio.timeout(PATIENCE_S):
        for n in range(200):
            task = asyncio.create_task(forever())
            for _ in range(n % 10):
                await asyncio.sleep(0)
            if n % 2:
                await store.get("/a")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
