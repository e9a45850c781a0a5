"""Disk and S3 of the storage service, and their faults: a full disk, a failing S3."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from danube_harness.chaos.plan import Hazard
from danube_harness.faults.s3_faults import S3Fault, S3FaultProxy
from danube_harness.faults.small_disk import SmallDisk
from danube_harness.servers.s3_server import BUCKET, REGION, S3Kind, S3Server

S3 = "s3"
DISK = "disk"
FAULTY_PART = 0.5
"""The part of the requests that fail while S3 has a fault."""
TROUBLE_S = (3.0, 9.0)
AWAY_S = (1.0, 5.0)

_S3_FAULTS: Mapping[str, S3Fault] = {
    "answer 503 from": S3Fault.SLOW_DOWN,
    "lose answers of": S3Fault.LOST_ANSWER,
    "cut answers of": S3Fault.CUT_BODY,
}


@dataclass(frozen=True, slots=True)
class Backing:
    """An S3 server behind a proxy, and a small file system for segments where one can be mounted.

    Attributes:
        no_disk: why there is none; empty if there is.
    """

    server: S3Server
    line: S3FaultProxy
    disk: SmallDisk | None
    no_disk: str = ""

    @classmethod
    @asynccontextmanager
    async def run(cls, directory: Path, segments: Path, disk_bytes_max: int) -> AsyncIterator[Self]:
        """Start it; stop it at the end.

        Args:
            directory: gets what S3 keeps.
            segments: where the disk is mounted.
            disk_bytes_max: its size; it takes memory only as far as it is used.
        """
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(S3Server.run(S3Kind.SEAWEED, directory))
            line = await stack.enter_async_context(S3FaultProxy.run(server.endpoint))
            disk, no_disk = None, ""
            try:
                disk = stack.enter_context(SmallDisk.mounted(segments, disk_bytes_max))
            except PermissionError as error:
                no_disk = str(error)
            yield cls(server, line, disk, no_disk)

    @property
    def arguments(self) -> Sequence[str]:
        """Command-line arguments by which the storage service finds S3."""
        return ("--s3-bucket", BUCKET, "--s3-endpoint-url", self.line.endpoint, "--s3-region", REGION)

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables with the credentials of S3."""
        return self.server.environment

    def hazards(self) -> list[Hazard]:
        """The faults of disk and S3; none of the disk if it cannot be mounted."""
        found = [Hazard(fault, (S3,), TROUBLE_S, core=fault.startswith("lose")) for fault in _S3_FAULTS]
        found.append(Hazard("take away", (S3,), AWAY_S, core=True))
        if self.disk is not None:
            found.append(Hazard("fill the", (DISK,), TROUBLE_S, core=True))
        return found

    def heal(self) -> None:
        """End every fault: S3 answers, and the disk has room."""
        self.line.choose = lambda _: None
        if self.disk is not None:
            self.disk.free()

    async def trouble(self, fault: str, lasts_s: float, chance: random.Random) -> None:
        """Cause one of the faults of `hazards` for ``lasts_s``, then end it."""
        if fault == "fill the":
            assert self.disk is not None
            await asyncio.to_thread(self.disk.fill)
            await self._for(lasts_s)
        elif fault == "take away":
            await self.server.kill()
            try:
                await asyncio.sleep(lasts_s)
            finally:
                await self.server.start()
        else:
            met = _S3_FAULTS[fault]
            self.line.choose = lambda _: met if chance.random() < FAULTY_PART else None
            await self._for(lasts_s)

    async def _for(self, lasts_s: float) -> None:
        try:
            await asyncio.sleep(lasts_s)
        finally:
            self.heal()


TROUBLES: Sequence[str] = (*_S3_FAULTS, "take away", "fill the")
"""Every fault that `Backing.trouble` knows."""
