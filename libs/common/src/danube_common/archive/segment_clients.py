"""Client of the storage instances: asks those that can serve a segment, one after another."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import msgspec

from danube_common.archive.ranking import ranked
from danube_common.archive.records import S3_HOLDER, SegmentRecord
from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.errors import BusUnavailable, InvalidInput, NotFound, StoreUnavailable, Unavailable
from danube_common.model.strategy import StorageBackend
from danube_common.wire.archive import ARCHIVE, storage_subject
from danube_common.wire.envelope import Request

ANSWER_TIMEOUT_S = 10.0
AVOIDED_S = 5.0
"""How long an instance that did not answer is asked last."""

R = TypeVar("R", bound=msgspec.Struct)


class SegmentClients:
    """Sends requests about segments to their holders, and remembers which instances did not answer.

    Args:
        bus: reaches the storage instances.
        catalogue: of storage instances.
        clock: monotonic seconds.
    """

    def __init__(
        self, bus: Bus, catalogue: Catalogue, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._catalogue = catalogue
        self._clock = clock
        self._avoided_until: dict[str, float] = {}

    def order(self, record: SegmentRecord) -> list[tuple[str, str]]:
        """(holder, instance id) pairs, the most promising first; the holder of S3 is `S3_HOLDER`."""
        now = self._clock()
        in_s3 = record.backend is StorageBackend.S3
        storage = self._catalogue.instances("storage")
        able = [each.instance_id for each in storage if record.backend in each.backends]
        pairs = [
            (S3_HOLDER if in_s3 else instance_id, instance_id)
            for instance_id in ranked(record.key, able if in_s3 else record.holders)
        ]

        def doubt(pair: tuple[str, str]) -> tuple[bool, bool, bool]:
            holder, instance_id = pair
            return (
                holder in record.quarantined,
                not self._catalogue.is_live(instance_id),
                self._avoided_until.get(instance_id, 0) > now,
            )

        return sorted(pairs, key=doubt)

    async def answers(self, record: SegmentRecord, request: Request[R]) -> AsyncGenerator[tuple[str, R]]:
        """Yield (holder, answer) of one instance after another; the caller stops when it is served.

        After the last one, raises NotFound if an instance answered that the segment, or what was asked of it,
        does not exist, and StoreUnavailable if an instance did not answer or none is known.
        """
        missing: NotFound | None = None
        silent: list[str] = []
        order = self.order(record)
        for holder, instance_id in order:
            try:
                answer = await self._ask(instance_id, request)
            except NotFound as error:
                missing = error
            except (Unavailable, InvalidInput) as error:
                silent.append(f"{instance_id}: {error}")
            else:
                yield holder, answer
        if missing is not None:
            raise missing
        if silent or not order:
            reasons = "; ".join(silent) or "no storage instance can serve it"
            raise StoreUnavailable(f"segment {record.key} cannot be read now ({reasons})")

    async def first_answer(self, record: SegmentRecord, request: Request[R]) -> R:
        """The answer of the first instance that has one; raises as `answers` does."""
        async with aclosing(self.answers(record, request)) as answers:
            async for _, answer in answers:
                return answer
        raise AssertionError("a generator that yields nothing has raised")

    async def _ask(self, instance_id: str, request: Request[R]) -> R:
        """Raises Unavailable, CorruptData, and the error that the instance answered with."""
        subject = storage_subject(instance_id)
        try:
            answer = await ARCHIVE.ask(self._bus, subject, request, timeout_s=ANSWER_TIMEOUT_S)
        except BusUnavailable:
            now = self._clock()
            self._avoided_until = {i: until for i, until in self._avoided_until.items() if until > now}
            self._avoided_until[instance_id] = now + AVOIDED_S
            raise
        self._avoided_until.pop(instance_id, None)
        return answer
