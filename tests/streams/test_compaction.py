from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import faust
import pytest
import pytest_asyncio
from faust.types import TP
from tests.streams.test_app import until
from tests.streams.test_stores import contents
from tests.streams.worker import ROOT

from danube_client import Client, Consumer, Producer, connect
from danube_faust import record
from danube_faust.names import Names
from danube_faust.tables.compaction import Compacted, compact
from danube_faust.tables.restoring import begin, restore
from danube_faust.tables.snapshots import ChangelogIncomplete, Snapshots, marks_of, records_of
from danube_faust.topics import Topics
from danube_harness.child_process import ChildProcess
from danube_harness.platforms.admin_calls import ask_admin
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as admin_wire

pytestmark = [
    pytest.mark.server,
    pytest.mark.acceptance,
    pytest.mark.timeout(400),
    # Of Faust and its libraries.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
KEYS = 100
ROUNDS = 20
SETTINGS = {
    "DANUBE_ADMIN_BUNDLES_FILE": "1",
    "DANUBE_STORAGE_SEAL_AGE_S": "1",
    "DANUBE_STORAGE_OWN_SEGMENT_BYTES_MIN": "1",
    "DANUBE_STORAGE_RETENTION_INTERVAL_S": "0.3",
    "DANUBE_STORAGE_DELETE_DELAY_S": "0.5",
}
"""So that what may be deleted is deleted soon."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform.run(tmp_path_factory.mktemp("platform"), environment=SETTINGS) as running:
        yield running


class Changelog:
    """The changelog of a table with one partition, its writer and what the table is to have."""

    def __init__(self, name: str, client: Client, platform: Platform) -> None:
        self.app_id = name
        self.client = client
        self.platform = platform
        self.topics = Topics(client, Names())
        self.tp = TP(f"{name}-sums-changelog", 0)
        self.expected: dict[str, int] = {}

    async def write(self, changes: Mapping[str, int | None]) -> None:
        """Store changes; None deletes a key."""
        await self.topics.create(self.tp.topic, 1)
        async with self.client.producer(self.topics.name(self.tp)) as producer:
            for key, value in changes.items():
                content = None if value is None else b"%d" % value
                sent = record.outgoing(json.dumps(key).encode(), content)
                await producer.post(sent.payload, sent.attributes, key=sent.key)
                if value is None:
                    self.expected.pop(key, None)
                else:
                    self.expected[key] = value
            await producer.flush()

    async def write_rounds(self, count: int) -> None:
        """Change each key so often."""
        for number in range(count):
            await self.write({f"k{key}": number * KEYS + key for key in range(KEYS)})

    async def compact(self) -> Compacted:
        return await compact(self.client, self.topics, self.tp, keep_s=0.0)

    async def earliest(self) -> int:
        oldest = (await self.topics.oldest([self.tp]))[self.tp]
        return 0 if oldest is None else oldest.position

    async def until_deleted(self, position: int) -> None:
        """Return when the platform has deleted a position; the test's timeout bounds it."""
        while await self.earliest() <= position:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)

    async def compact_until_deleted(self, position: int) -> None:
        """Change all keys and compact, until a segment is deleted that has a position."""
        while await self.earliest() <= position:
            await self.write_rounds(1)
            await self.compact()
            await asyncio.sleep(0.5)

    async def recovered(self, directory: Path, store: str = "memory://") -> tuple[dict[str, int], int]:
        """Start a worker; return what its table has, and how many changes it read."""
        read = 0

        async def counted(app: Any, tp: Any, messages: Sequence[Any]) -> None:
            nonlocal read
            read += len(messages)
            await restore(app, tp, messages)

        app, table = self.worker(directory, store)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("danube_faust.consumer.restore", counted)
            async with app:
                await until(lambda: app.tables.actives_ready or app.crash_reason)
                assert app.crash_reason is None, repr(app.crash_reason)
                return dict(table.items()), read

    def worker(self, directory: Path, store: str, *, standbys: int = 0) -> tuple[Any, Any]:
        """Return an app with the table, and the table."""
        app = faust.App(
            self.app_id,
            broker=f"danube://{self.platform.gateway_addr}",
            topic_partitions=1,
            table_standby_replicas=standbys,
            store=store,
            datadir=str(directory),
            web_enabled=False,
        )
        table = app.Table("sums", default=int)

        @app.agent(app.topic(f"{self.app_id}-orders", value_type=int))  # type: ignore[arg-type]
        async def add(stream: Any) -> None:
            async for key, value in stream.items():
                table[key] += value

        return app, table

    async def delete_snapshots(self) -> None:
        """Delete the topics that compactions have made."""
        for beside in (marks_of(self.tp), records_of(self.tp)):
            await ask_admin(
                [self.platform.admin_addr],
                "/danube_admin.TopicAdmin/DeleteTopic",
                admin_wire.TopicRequest(name=Names().topic(beside.topic)),
                admin_wire.TopicResponse,
            )
        self.topics = Topics(self.client, Names())
        await self.topics.find(self.tp.topic)

    async def delete_unread(self) -> None:
        """Change a key, and compact until the platform has deleted that change."""
        await self.write({"unread": 1, "k1": None})
        (position,) = (await self.topics.ends([self.tp])).values()
        await self.compact_until_deleted(position - 1)
        await self.write({"k2": None, "new": 1})


@pytest_asyncio.fixture
async def changelog(
    request: pytest.FixtureRequest, platform: Platform
) -> AsyncIterator[Callable[[str], Changelog]]:
    async with connect(f"http://{platform.gateway_addr}", streaming=True) as client:
        yield lambda name: Changelog(name, client, platform)


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
async def test_recovery_reads_keys_and_not_changes_and_the_platform_deletes_what_is_compacted(
    changelog: Callable[[str], Changelog], tmp_path: Path, store: str
) -> None:
    if store == "rocksdb":
        pytest.importorskip("rocksdict", reason="SKIPPED: rocksdict is not installed")
    one = changelog(f"compacted-{store}")
    await one.write_rounds(2)
    await one.write({"gone": 1, "k1": None})
    before, _ = await one.recovered(tmp_path, f"{store}://")
    assert before == one.expected
    first = await one.earliest()
    await one.write_rounds(ROUNDS)
    assert await one.compact() == (KEYS * (ROUNDS + 2) + 2, KEYS + 1, True, 0)

    await one.write({"gone": None, "k2": None})
    assert await one.compact() == (2, KEYS - 1, False, 0)
    await one.write_rounds(1)
    second = await one.compact()
    assert (second.changes, second.written) == (KEYS + 2, True)
    await one.write({"k3": None, "new": 7})
    await one.until_deleted(first)

    after, read = await one.recovered(tmp_path, f"{store}://")
    assert after == one.expected
    assert read <= 3


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
async def test_a_recovery_begins_anew_when_changes_are_deleted_behind_the_snapshot_that_it_began_with(
    changelog: Callable[[str], Changelog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    if store == "rocksdb":
        pytest.importorskip("rocksdict", reason="SKIPPED: rocksdict is not installed")
    one = changelog(f"overtaken-{store}")
    await one.write_rounds(2)
    await one.compact()
    await one.write({"behind": 1})
    began = 0

    async def overtaken(*args: Any) -> Any:
        nonlocal began
        found = await begin(*args)
        if args[-1]:
            began += 1
            if began == 1:
                await one.delete_unread()
        return found

    monkeypatch.setattr("danube_faust.consumer.begin", overtaken)
    found, _ = await one.recovered(tmp_path, f"{store}://")
    assert (found, began) == (one.expected, 2)


async def test_a_standby_for_which_changes_are_deleted_unread_begins_anew(
    changelog: Callable[[str], Changelog], tmp_path: Path
) -> None:
    pytest.importorskip("rocksdict", reason="SKIPPED: rocksdict is not installed")
    one = changelog("late")
    await one.write_rounds(2)
    active, _ = one.worker(tmp_path / "active", "rocksdb://", standbys=1)
    async with active:
        await until(lambda: active.tables.actives_ready)
        standby, table = one.worker(tmp_path / "standby", "rocksdb://", standbys=1)
        async with standby:
            await until(lambda: contents(table) == one.expected)
            assert active.assignor.assigned_actives(), "it keeps what it has"
            followed = standby.consumer._sources.of(one.tp)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(followed, "resume", lambda: None)
                followed.pause()
                await one.delete_unread()
            async with asyncio.timeout(60):
                await until(lambda: contents(table) == one.expected)


async def test_a_changelog_that_was_compacted_and_has_lost_its_snapshots_is_refused(
    changelog: Callable[[str], Changelog], tmp_path: Path
) -> None:
    one = changelog("bereft")
    await one.write_rounds(2)
    first = await one.earliest()
    await one.compact()
    await one.delete_snapshots()
    assert (await one.compact()).written, "as long as it has all changes it needs no snapshot"
    await one.compact_until_deleted(first)
    await one.delete_snapshots()

    lost = r"bereft-sums-changelog lacks the first \d+ changes of partition 0.*-changelog-snapshot-marks"
    with pytest.raises(ChangelogIncomplete, match=lost):
        await one.compact()
    with pytest.raises(AssertionError, match=lost):
        await one.recovered(tmp_path)


STEPS = ("no record", "some records", "all records", "the mark", "the changelog's cursor", "all but a cursor")


@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
async def test_a_compaction_that_ends_at_any_step_costs_nothing(
    changelog: Callable[[str], Changelog], tmp_path: Path, step: int
) -> None:
    one = changelog(f"ended-{step}")
    await one.write_rounds(3)
    await one.compact()
    await one.write_rounds(1)
    await one.write({"k1": None})

    with pytest.MonkeyPatch.context() as patch:
        end_after(patch, step)
        with pytest.raises(Ended):
            await one.compact()
    await one.write({"k2": None, "new": 1})

    found, read = await one.recovered(tmp_path)
    assert (found, read <= KEYS + 4) == (one.expected, True)
    await one.compact()
    await one.write_rounds(1)
    await one.compact()
    found, read = await one.recovered(tmp_path)
    assert (found, read) == (one.expected, 0)


class Ended(Exception):
    """Stands for the end of the process."""


def end_after(patch: pytest.MonkeyPatch, step: int) -> None:
    """Let the next compaction end at a step, by what it sends and where it moves cursors."""
    real_post, real_send, real_seek = Producer.post, Producer.send, Consumer.seek
    seen = {"post": 0, "seek": 0}

    async def post(producer: Producer, *args: Any, **options: Any) -> Any:
        seen["post"] += 1
        if seen["post"] > {0: 0, 1: KEYS // 2}.get(step, KEYS):
            raise Ended
        return await real_post(producer, *args, **options)

    async def send(producer: Producer, *args: Any, **options: Any) -> Any:
        if step == 2:
            raise Ended
        return await real_send(producer, *args, **options)

    async def seek(consumer: Consumer, *args: Any, **options: Any) -> None:
        seen["seek"] += 1
        if seen["seek"] > step - 3:
            raise Ended
        await real_seek(consumer, *args, **options)

    patch.setattr(Producer, "post", post)
    patch.setattr(Producer, "send", send)
    patch.setattr(Consumer, "seek", seek)


class CompactCommand(ChildProcess):
    """``danube-faust compact``; ready when it has stored the first record of a snapshot."""

    start_timeout_s = 120.0

    def __init__(self, directory: Path, one: Changelog) -> None:
        environment = {
            **os.environ,
            "APP_ID": one.app_id,
            "DANUBE_BROKER": f"danube://{one.platform.gateway_addr}",
            "PYTHONPATH": str(ROOT),
        }
        super().__init__("compact", directory, environment=environment)
        self._one = one

    def _command(self) -> Sequence[str]:
        app = "tests.streams.compacted_app"
        return [sys.executable, "-m", "danube_faust", "-A", app, "compact", "--keep", "0"]

    async def _problem(self) -> str | None:
        records = records_of(self._one.tp)
        if await self._one.topics.find(records.topic) and any(
            (await self._one.topics.ends([records])).values()
        ):
            return None
        return "it has stored nothing"


async def test_the_command_that_is_killed_in_the_middle_is_repeated_as_if_it_had_not_run(
    changelog: Callable[[str], Changelog], tmp_path: Path
) -> None:
    one = changelog("killed")
    many = {f"k{number}": number for number in range(100 * KEYS)}
    await one.write(many)
    await one.write(many)
    command = CompactCommand(tmp_path, one)
    await command.start()
    await command.kill()
    assert await Snapshots(one.client, one.topics).marks(one.tp) == []
    await one.write({"k1": None})
    found, _ = await one.recovered(tmp_path)
    assert found == one.expected

    process = await asyncio.create_subprocess_exec(
        *command._command(), stdout=PIPE, stderr=STDOUT, env=command._environment
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    assert f"{len(many) - 1} keys, {2 * len(many) + 1} changes, a new snapshot" in output.decode()
    found, read = await one.recovered(tmp_path)
    assert (found, read) == (one.expected, 0)
