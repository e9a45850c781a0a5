"""Has a copy of a segment made by another storage instance, or by this one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from danube_common.wire.archive import SegmentLocator
from danube_common.wire.repair import REPAIR, CopySegment, repair_subject
from danube_storage.archive.session import ArchiveSession
from danube_storage.repair.copier import ANSWER_S

COPY_S_MAX = 3600.0
REPLY_S = 10.0
"""How much later than ANSWER_S an answer may come."""


async def until_copied(
    session: ArchiveSession, locator: SegmentLocator, target: str, sources: Sequence[str]
) -> bool:
    """Wait until ``target`` has copied a segment from one of ``sources``.

    The segment's record must ask for that, see `CopySegment`. Returns False if the lease was lost meanwhile.
    Raises DanubeError, TimeoutError.
    """
    request = CopySegment(locator, tuple(sources))
    async with asyncio.timeout(COPY_S_MAX):
        while session.lease.held:
            reply = await REPAIR.ask(
                session.ports.bus,
                repair_subject(target),
                request,
                timeout_s=ANSWER_S + REPLY_S,
            )
            if reply.done:
                return session.lease.held
    return False
