"""Faults of the segments on one instance's disk, and whether every segment has all its copies in the end."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from pathlib import Path

from danube_common.archive.records import ManifestEntry, SegmentRecord
from danube_common.bus.nats import NatsBus
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record
from danube_common.metadata.jetstream import JetStreamMetadata
from danube_common.model.strategy import StorageBackend
from danube_harness.chaos.chaos_cluster import ChaosCluster

LOOK_S = 1.0
TOLD_MAX = 3


def lose_disk(cluster: ChaosCluster, name: str) -> None:
    """Delete all segments of a storage instance that does not run."""
    for directory in _directories(cluster, name):
        shutil.rmtree(directory, ignore_errors=True)


def flip_byte(cluster: ChaosCluster, name: str, chance: random.Random) -> Path | None:
    """Flip a byte of one of the segments of a storage instance; return its file, if there is one."""
    files = [
        file
        for directory in _directories(cluster, name)
        for file in sorted(directory.rglob("[!.]*"))
        if file.is_file()
    ]
    if not files:
        return None
    file = chance.choice(files)
    try:
        with file.open("r+b") as opened:
            content = opened.read()
            at = chance.randrange(len(content))
            opened.seek(at)
            opened.write(bytes([content[at] ^ (1 << chance.randrange(8))]))
    except FileNotFoundError:
        return None  # retention was faster
    return file


async def until_whole(cluster: ChaosCluster, copies: int, s_max: float) -> list[str]:
    """Wait until every disk segment has ``copies`` equal copies; return what is not so after ``s_max``."""
    bus = await NatsBus.connect(cluster.nats_url, name="copies")
    store = await JetStreamMetadata.open(bus.connection)
    until = time.monotonic() + s_max
    try:
        while True:
            listing = await store.list(keys.MANIFESTS)
            records = [
                record
                for entry in listing.entries
                for record in decode_record(ManifestEntry, entry.value).segments
                if record.retained and StorageBackend.DISK in (record.backend, record.bound_for)
            ]
            problems = await asyncio.to_thread(_problems, cluster, records, copies)
            if not problems or time.monotonic() > until:
                more = [f"and {len(problems) - TOLD_MAX} more"] if len(problems) > TOLD_MAX else []
                return problems[:TOLD_MAX] + more
            await asyncio.sleep(LOOK_S)
    finally:
        await store.close()
        await bus.close()


def _problems(cluster: ChaosCluster, records: list[SegmentRecord], copies: int) -> list[str]:
    found = []
    for record in records:
        held = {
            file.read_bytes()
            for holder in record.holders
            for file in cluster.directory.segments.glob(f"*/{holder}/{record.key}")
        }
        if len(record.holders) < copies or len(held) != 1:
            found.append(f"{record.key} has {len(record.holders)} copies of {len(held)} contents")
        elif record.quarantined or record.copying or record.bound_for:
            state = dict(record.quarantined) or record.copying or f"waits for {record.bound_for}"
            found.append(f"{record.key} is not settled: {state}")
    return found


def _directories(cluster: ChaosCluster, name: str) -> list[Path]:
    return list(cluster.directory.segments.glob(f"*/{cluster.directory.instance_id(name)}"))
