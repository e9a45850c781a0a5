"""How much a platform has moved from its logs to segments."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import aiohttp
import nats

from danube_harness.chaos.chaos_cluster import ChaosCluster
from danube_harness.servers.s3_server import ACCESS_KEY, BUCKET

LOG_STREAMS = "DANUBE_LOG_f"
"""The logs on disk: those in memory begin anywhere."""
_KEY = re.compile(r"<Key>")


@dataclass(frozen=True, slots=True)
class Archived:
    """What has left the logs.

    Attributes:
        purged: entries that the logs on disk do not hold any more.
        on_disk: files under the segment directory.
        in_s3: objects in the bucket; not more than the 1 000 of one listing.
    """

    purged: int = 0
    on_disk: int = 0
    in_s3: int = 0

    def __str__(self) -> str:
        return (
            f"{self.purged} entries purged from the logs, "
            f"{self.on_disk} segment files on disk, {self.in_s3} objects in S3"
        )


async def look(cluster: ChaosCluster) -> Archived:
    """Count what has left the logs by now; the platform and S3 must be healthy."""
    connection = await nats.connect(cluster.nats_url)
    try:
        streams = await connection.jetstream().streams_info()
        purged = sum(
            max(0, info.state.first_seq - 1)
            for info in streams
            if (info.config.name or "").startswith(LOG_STREAMS)
        )
    finally:
        await connection.close()
    on_disk = await asyncio.to_thread(
        lambda: sum(path.is_file() for path in cluster.directory.segments.rglob("*"))
    )
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{cluster.backing.server.endpoint}/{BUCKET}",
            params={"list-type": "2"},
            headers={"Authorization": f"AWS {ACCESS_KEY}:unsigned"},
        ) as answer,
    ):
        in_s3 = len(_KEY.findall(await answer.text()))
    return Archived(purged, on_disk, in_s3)
