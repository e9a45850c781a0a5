"""Asking the storage instances that can serve a segment, one after another."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from danube_common.archive.ranking import ranked
from danube_common.archive.records import S3_HOLDER, SegmentRecord
from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.errors import BusUnavailable, InvalidInput, NotFound, StoreUnavailable, Unavailable
from danube_common.model.strategy import StorageBackend
from danube_common.wire.archive import ARCHIVE, StorageReply, StorageRequest, storage_subject

ANSWER_TIMEOUT_S = 10.0
AVOIDED_S = 5.0
"""An instance that did not answer is asked last for this long."""

R = TypeVar("R", bound=StorageReply)


class SegmentClients:
    """Where segments are, and who answers for them. Shared by everything that reads one bundle's archive."""

    def __init__(
        self, bus: Bus, catalogue: Catalogue, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._catalogue = catalogue
        self._clock = clock
        self._avoided_until: dict[str, float] = {}

    def order(self, record: SegmentRecord) -> list[tuple[str, str]]:
        """(place, instance) pairs, the most promising first; ``place`` is as in `SegmentRecord.places`."""
        now = self._clock()
        if record.backend is StorageBackend.DISK:
            found = [(holder, holder) for holder in ranked(record.key, record.holders)]
        else:
            live = {instance.instance_id: instance for instance in self._catalogue.instances("storage")}
            able = [name for name in ranked(record.key, live) if StorageBackend.S3 in live[name].backends]
            found = [(S3_HOLDER, instance_id) for instance_id in able]

        def doubt(pair: tuple[str, str]) -> tuple[bool, bool, bool]:
            place, instance_id = pair
            return (
                place in record.quarantined,
                not self._catalogue.is_live(instance_id),
                self._avoided_until.get(instance_id, 0) > now,
            )

        return sorted(found, key=doubt)

    async def answers(
        self, record: SegmentRecord, request: StorageRequest, reply: type[R]
    ) -> AsyncGenerator[tuple[str, R]]:
        """(place, answer) of one place after another; the caller stops at the first that serves it.

        After the last, raises NotFound if one said that the segment (or what is asked of it) is not there,
        StoreUnavailable if not every place answered.
        """
        missing: NotFound | None = None
        silent: list[str] = []
        order = self.order(record)
        for place, instance_id in order:
            try:
                answer = await self._ask(instance_id, request, reply)
            except NotFound as error:
                missing = error
            except (Unavailable, InvalidInput) as error:
                silent.append(f"{instance_id}: {error}")
            else:
                yield place, answer
        if missing is not None:
            raise missing
        if silent or not order:
            reasons = "; ".join(silent) or "no storage instance is there"
            raise StoreUnavailable(f"segment {record.key} cannot be read now ({reasons})")

    async def first_answer(self, record: SegmentRecord, request: StorageRequest, reply: type[R]) -> R:
        """The answer of the first place that has one; raises as `answers` does."""
        async with aclosing(self.answers(record, request, reply)) as answers:
            async for _, answer in answers:
                return answer
        raise AssertionError("a generator that yields nothing has raised")

    async def _ask(self, instance_id: str, request: StorageRequest, reply: type[R]) -> R:
        """Raises what the instance refused with, Unavailable, CorruptData."""
        subject = storage_subject(instance_id)
        try:
            answer = await ARCHIVE.ask(self._bus, subject, request, reply, timeout_s=ANSWER_TIMEOUT_S)
        except BusUnavailable:
            self._avoid(instance_id)
            raise
        self._avoided_until.pop(instance_id, None)
        return answer

    def _avoid(self, instance_id: str) -> None:
        now = self._clock()
        self._avoided_until = {i: until for i, until in self._avoided_until.items() if until > now}
        self._avoided_until[instance_id] = now + AVOIDED_S
