"""Tier 2 beside bare peers that do the same in the same run. See `make bench-storage`."""

from __future__ import annotations

import asyncio
import json
import os
import platform as machine
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.benchmarks.archive_bench import (
    MESSAGE_BYTES,
    MESSAGES_PER_FRAME,
    PART_BYTES,
    PARTS_AT_ONCE,
    ArchiveBench,
    copy_durably,
    file_bundle,
    frames_of,
    peak_rss_bytes,
    topic_of,
)

from danube_common.archive.manifest import Manifest
from danube_common.cluster.records import Topic
from danube_common.model.bundle import Bundle
from danube_common.model.strategy import StorageBackend
from danube_common.wire.frame import decode_frame, encode_frame
from danube_harness.servers.nats_server import NatsServer
from danube_harness.servers.s3_server import S3Kind, S3Server
from danube_storage.segments.s3 import S3Store
from danube_topic_owner.catchup.history import History

MB = 1 << 20
SIZE_MB = int(os.environ.get("DANUBE_BENCH_MB", "256"))
"""Of one round. 1024 for the figures of a release."""
ROUNDS = int(os.environ.get("DANUBE_BENCH_ROUNDS", "3"))
QUIET_TOPICS = (100, 10_000)
QUIET_MESSAGES = 4
RSS_BYTES_MAX = 400 * MB
READ_BYTES = 4 * MB
FRAMES_PER_READ = 64
REPORT = Path("reports/benchmark-storage.json")
DISK, S3 = StorageBackend.DISK, StorageBackend.S3

DURABILITY = {
    "segments alone": "of archive: built from the frames in memory and durable",
    "archive, disk": "segment files and directories synced, catalogued in JetStream synced, then log purged",
    "cp + fsync": "every file and directory synced",
    "archive, S3": "objects completed, catalogued in JetStream synced, then log purged",
    "bare multipart": "objects completed by the same server",
}
RATIOS_MIN = {"archive_disk": 0.3, "archive_s3": 0.3, "replay_disk": 0.6}
"""To the peers; on a quiet machine archiving has above 0.6 and replaying above 1."""

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def test_tier_2_measured_beside_bare_peers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(measure(tmp_path, monkeypatch))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    with capsys.disabled():
        print(f"\n{table(report)}\nwritten to {REPORT}")
    for what, ratio_min in RATIOS_MIN.items():
        assert report[what]["ratio"] > ratio_min, what
    assert report["memory"][str(QUIET_TOPICS[-1])]["peak_bytes"] < RSS_BYTES_MAX


async def measure(directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (directory / "s3").mkdir()
    async with S3Server.run(S3Kind.SEAWEED, directory / "s3") as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        report: dict[str, Any] = {
            "cores": os.cpu_count(),
            "python": machine.python_version(),
            "size_mb": SIZE_MB,
            "rounds": ROUNDS,
            "durability": DURABILITY,
        }
        place = directory / "throughput"
        place.mkdir()
        async with (
            NatsServer.run(place, file_store_bytes_max=64 << 30) as nats,
            ArchiveBench.open(place, nats, s3, 2 * ROUNDS) as bench,
        ):
            report |= await throughput(bench)
        shutil.rmtree(place)
        report["memory"] = {}
        for count in QUIET_TOPICS:
            place = directory / f"memory-{count}"
            place.mkdir()
            async with NatsServer.run(place) as nats, ArchiveBench.open(place, nats, s3, 1) as bench:
                report["memory"][str(count)] = await memory(bench, count)
        return report


async def throughput(bench: ArchiveBench) -> dict[str, Any]:
    """Each round archives a bundle beside its peer; then one is replayed beside the same frames as a log."""
    topics = [topic_of(file_bundle(n), n + 1, DISK if n < ROUNDS else S3) for n in range(2 * ROUNDS)]
    await bench.add_topics(topics)
    peer = topic_of(file_bundle(2 * ROUNDS), 2 * ROUNDS + 1, DISK)
    for topic in [*topics, peer]:
        await bench.fill(topic.home, frames_of(topic, SIZE_MB * MB))
    views: list[Manifest] = []
    try:
        disk = [await archive_on_disk(bench, topic, views) for topic in topics[:ROUNDS]]
        s3 = [await archive_in_s3(bench, topic, views) for topic in topics[ROUNDS:]]
        async with bench.storage_process():
            replayed = await replay(bench, views[0], topics[0], peer.home)
            replayed_s3 = await replay(bench, views[ROUNDS], topics[ROUNDS], peer.home)
    finally:
        for view in views:
            await view.close()
    return {
        "archive_disk": summary(disk, "archive", "cp + fsync"),
        "archive_s3": summary(s3, "archive", "bare multipart"),
        "segments_disk": summary(disk, "segments", "cp + fsync"),
        "segments_s3": summary(s3, "segments", "bare multipart"),
        "replay_disk": replayed,
        "replay_s3": replayed_s3,
    }


def summary(rounds: list[dict[str, float]], ours: str, peer: str) -> dict[str, float]:
    """MB/s as medians; the ratio is of each round with its own peer."""
    return {
        f"{ours}_mb_s": round(SIZE_MB / statistics.median(r[ours] for r in rounds)),
        f"{peer}_mb_s": round(SIZE_MB / statistics.median(r[peer] for r in rounds)),
        "ratio": round(statistics.median(r[peer] / r[ours] for r in rounds), 2),
        "ratio_min": round(min(r[peer] / r[ours] for r in rounds), 2),
    }


async def archive_on_disk(bench: ArchiveBench, topic: Topic, views: list[Manifest]) -> dict[str, float]:
    made_s = 0.0

    async def archive() -> None:
        nonlocal made_s
        view, made_s = await bench.archive(topic.home)
        views.append(view)

    taken = await seconds(archive)
    (made,) = bench.data_dir.glob(f"*/*/{topic.home}")
    copies = bench.directory / "copies"
    copied = await seconds(lambda: copy_durably(made, copies))
    shutil.rmtree(copies)
    return {"archive": taken, "segments": made_s, "cp + fsync": copied}


async def archive_in_s3(bench: ArchiveBench, topic: Topic, views: list[Manifest]) -> dict[str, float]:
    made_s = 0.0

    async def archive() -> None:
        nonlocal made_s
        view, made_s = await bench.archive(topic.home)
        views.append(view)

    taken = await seconds(archive)
    store = bench.stores.of(S3)
    records = [record for cut in views[-1].all() for record in cut.segments]
    contents = {r.key: await _whole(store, r.key, r.size_bytes) for r in records}
    bare = await bench.bare_s3()
    bare_taken = await seconds(lambda: upload_in_parts(bare, contents))
    for key in contents:
        await bare.delete(key)
    await bare.close()
    return {"archive": taken, "segments": made_s, "bare multipart": bare_taken}


async def _whole(store: Any, key: str, size_bytes: int) -> bytes:
    pieces = [await store.read(key, at, PART_BYTES) for at in range(0, size_bytes, PART_BYTES)]
    return b"".join(pieces)


async def upload_in_parts(store: S3Store, contents: dict[str, bytes]) -> None:
    """Nothing but the client's own calls: no checksum of ours, no condition, as many at once as we have."""
    link: Any = store._link
    client = link._client
    slots = asyncio.Semaphore(PARTS_AT_ONCE)

    async def upload(key: str, content: bytes) -> None:
        where = {"Bucket": "segments", "Key": f"bare/{key}"}
        begun = await client.create_multipart_upload(**where)
        where["UploadId"] = begun["UploadId"]

        async def part(number: int, body: bytes) -> dict[str, Any]:
            async with slots:
                answer = await client.upload_part(**where, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        bodies = [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]
        parts = await asyncio.gather(*(part(n, body) for n, body in enumerate(bodies, start=1)))
        await client.complete_multipart_upload(**where, MultipartUpload={"Parts": list(parts)})

    await asyncio.gather(*(upload(key, content) for key, content in contents.items()))


# Replay


async def replay(bench: ArchiveBench, cuts: Manifest, topic: Topic, peer: Bundle) -> dict[str, float]:
    """Rounds in turn: the segments through the storage process, and the same frames out of the log."""
    history = bench.history(cuts)
    messages = SIZE_MB * MB // (MESSAGE_BYTES * MESSAGES_PER_FRAME) * MESSAGES_PER_FRAME
    rounds: list[dict[str, float]] = []
    try:
        reads: dict[str, Callable[[], Awaitable[int]]] = {
            "JetStream": lambda: read_log(bench, peer, decode=True),
            "segments": lambda: read_history(history, topic, decode=True),
            "JetStream, undecoded": lambda: read_log(bench, peer, decode=False),
            "segments, undecoded": lambda: read_history(history, topic, decode=False),
        }
        for number in range(ROUNDS + 1):
            taken: dict[str, float] = {}
            for name, read in reads.items():
                began = time.perf_counter()
                found = await read()
                taken[name] = time.perf_counter() - began
                assert found == messages, f"{name} gave {found} of {messages} messages"
            if number:
                rounds.append(taken)
    finally:
        await history.close()
    undecoded = [r["JetStream, undecoded"] / r["segments, undecoded"] for r in rounds]
    return {
        **summary(rounds, "segments", "JetStream"),
        "ratio_undecoded": round(statistics.median(undecoded), 2),
    }


async def read_log(bench: ArchiveBench, bundle: Bundle, *, decode: bool) -> int:
    messages = 0
    sequence = 1
    while True:
        entries = await bench.log.read(bundle, sequence, frames_max=FRAMES_PER_READ, bytes_max=READ_BYTES)
        if not entries:
            return messages
        for entry in entries:
            if decode:
                messages += sum(len(section) for section in decode_frame(entry.frame).sections)
            else:
                messages += MESSAGES_PER_FRAME
        sequence = entries[-1].sequence + 1


async def read_history(history: History, topic: Topic, *, decode: bool) -> int:
    messages = position = 0
    while True:
        batch = await history.read(topic, position, bytes_max=READ_BYTES)
        if not batch.entries:
            return messages
        for entry in batch.entries:
            messages += len(entry.section) if decode else entry.messages
        position = batch.next_position


# Memory


async def memory(bench: ArchiveBench, count: int) -> dict[str, float]:
    """A storage process in whose log so many topics have messages: until all are archived and read."""
    bundle = file_bundle(0)
    topics = [topic_of(bundle, n + 1, DISK) for n in range(count)]
    await bench.add_topics(topics)
    payload = os.urandom(MESSAGE_BYTES)
    per_frame = 50
    frames = [
        encode_frame(1, number, [(t.topic_id, [payload]) for t in topics[at : at + per_frame]])
        for number, at in enumerate(list(range(0, count, per_frame)) * QUIET_MESSAGES)
    ]
    await bench.fill(bundle, frames)
    async with bench.storage_process() as process:
        cuts = await Manifest.open(bench.metadata, bundle)
        history = bench.history(cuts)
        try:
            await bench.until(lambda: cuts.archived_through >= len(frames))
            for topic in topics:
                batch = await history.read(topic, 0)
                assert sum(e.messages for e in batch.entries) == QUIET_MESSAGES, topic.name
            now, peak = peak_rss_bytes(process.pid)
        finally:
            await history.close()
            await cuts.close()
    return {"topics": count, "rss_bytes": now, "peak_bytes": peak}


def table(report: dict[str, Any]) -> str:
    """For people."""
    rows = (
        ("archive on disk", "archive", "cp + fsync", report["archive_disk"], 0.5),
        ("  segments alone", "segments", "cp + fsync", report["segments_disk"], None),
        ("archive in S3", "archive", "bare multipart", report["archive_s3"], 0.5),
        ("  segments alone", "segments", "bare multipart", report["segments_s3"], None),
        ("replay from disk", "segments", "JetStream", report["replay_disk"], 1.0),
        ("replay from S3", "segments", "JetStream", report["replay_s3"], None),
    )
    lines = [
        f"{report['size_mb']} MB of {MESSAGE_BYTES} byte messages, {MESSAGES_PER_FRAME} in a frame",
        f"{report['cores']} cores, Python {report['python']}; medians of {report['rounds']} rounds",
        "",
        f"{'':<20}{'MB/s':>8}{'peer':>20}{'MB/s':>8}{'ratio':>8}{'target':>8}",
    ]
    lines += [
        f"{name:<20}{row[f'{ours}_mb_s']:>8}{peer:>20}{row[f'{peer}_mb_s']:>8}"
        f"{row['ratio']:>8.2f}{target or '-':>8}"
        for name, ours, peer, row, target in rows
    ]
    lines += [f"replay undecoded: {report['replay_disk']['ratio_undecoded']:.2f} of JetStream", ""]
    lines += [
        f"storage process, {row['topics']} topics with pending data: {row['rss_bytes'] / MB:.0f} MB,"
        f" at most {row['peak_bytes'] / MB:.0f} MB (bound {RSS_BYTES_MAX // MB})"
        for row in report["memory"].values()
    ]
    lines += ["", *(f"{name}: {what}" for name, what in report["durability"].items())]
    return "\n".join(lines)
