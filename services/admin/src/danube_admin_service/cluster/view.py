"""A typed view of ``/cluster/`` in the metadata store, kept up to date by a mirror."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Self, TypeVar

import msgspec
import structlog

from danube_common.cluster import keys
from danube_common.cluster.load import LoadReport
from danube_common.cluster.records import Assignment, Claim, Drain, Instance, Layout, decode_record
from danube_common.errors import CorruptData, InvalidInput, MetadataUnavailable
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, Entry, MetadataStore
from danube_common.model.bundle import Bundle

OWNER_KIND: Final = "topic-owner"
CATCH_UP_TIMEOUT_S: Final = 2.0

R = TypeVar("R", bound=msgspec.Struct)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class LeaderRecord(msgspec.Struct, frozen=True):
    """The leading admin instance; ``nonce`` differs between two terms of one instance."""

    instance_id: str
    nonce: str


class Cluster:
    """The cluster as last seen: possibly behind the store, never ahead. Readable while the store is away.

    Attributes:
        changed: set when something an assignment depends on has changed; its reader clears it.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._values: dict[str, bytes] = {}
        self._mirror: Mirror | None = None

    @classmethod
    async def open(cls, store: MetadataStore) -> Self:
        """Return once everything stored so far was read. Raises MetadataUnavailable."""
        cluster = cls()
        cluster._mirror = await Mirror.open(store, keys.CLUSTER, cluster._on_change)
        return cluster

    async def close(self) -> None:
        """Stop following the store."""
        await self._copy.close()

    @property
    def leader(self) -> str | None:
        """The instance id of the leading admin instance."""
        record = _read(LeaderRecord, self._copy.get(keys.LEADER))
        return record.instance_id if record else None

    @property
    def owners(self) -> set[str]:
        """Instance ids of the living topic-owners."""
        found = (_read(Instance, entry) for entry in self._copy.entries(keys.REGISTER))
        return {one.instance_id for one in found if one is not None and one.kind == OWNER_KIND}

    @property
    def drains(self) -> dict[str, Drain]:
        """By instance id: topic-owners, living or not, that are to have no bundles."""
        found = (_read(Drain, entry) for entry in self._copy.entries(keys.DRAINS))
        return {one.instance_id: one for one in found if one is not None}

    @property
    def eligible_owners(self) -> set[str]:
        """The living owners that bundles may be given to: drained ones only while no other lives."""
        return self.owners - self.drains.keys() or self.owners

    @property
    def loads(self) -> dict[str, LoadReport]:
        """What owners told lately, by instance id; also those that are gone since."""
        found = (_read(LoadReport, entry) for entry in self._copy.entries(keys.LOAD))
        return {one.instance_id: one for one in found if one is not None}

    @property
    def assignments(self) -> dict[Bundle, Assignment]:
        return self._by_bundle(Assignment, keys.ASSIGNMENTS)

    @property
    def assigned(self) -> dict[Bundle, str]:
        return {bundle: record.instance_id for bundle, record in self.assignments.items()}

    @property
    def claimed(self) -> dict[Bundle, str]:
        return {bundle: record.instance_id for bundle, record in self._by_bundle(Claim, keys.OWNERS).items()}

    @property
    def layout(self) -> Layout | None:
        return _read(Layout, self._copy.get(keys.LAYOUT))

    def value(self, key: str) -> bytes | None:
        """Return the value of a key, or None."""
        entry = self._copy.get(key)
        return entry.value if entry else None

    def revision(self, key: str) -> int:
        """Return the revision that a write of the key must expect; 0 if the key does not exist."""
        entry = self._copy.get(key)
        return entry.revision if entry else 0

    async def catch_up(self, revision: int) -> None:
        """Wait until this view holds what was written at ``revision``. Raises MetadataUnavailable."""
        await self._copy.catch_up(revision, CATCH_UP_TIMEOUT_S)

    async def until_vacant(self, timeout_s: float) -> None:
        """Wait until there is no leader, at most ``timeout_s``."""
        try:
            await self._copy.wait_for(lambda _: self.leader is None, timeout_s)
        except TimeoutError:
            return

    async def until_settled(self, timeout_s: float) -> None:
        """Wait until there is a leader and a layout. Raises MetadataUnavailable after ``timeout_s``."""
        try:
            await self._copy.wait_for(
                lambda _: self.leader is not None and self.layout is not None, timeout_s
            )
        except TimeoutError:
            missing = "layout" if self.leader else "leader"
            raise MetadataUnavailable(f"the cluster has no {missing} after {timeout_s:g} s") from None

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``condition`` holds; return False if it did not within ``timeout_s``."""
        try:
            await self._copy.wait_for(lambda _: condition(), timeout_s)
        except TimeoutError:
            return False
        return True

    @property
    def _copy(self) -> Mirror:
        if self._mirror is None:
            raise RuntimeError("the cluster view is not open")
        return self._mirror

    def _by_bundle(self, kind: type[R], prefix: str) -> dict[Bundle, R]:
        found: dict[Bundle, R] = {}
        for entry in self._copy.entries(prefix):
            record = _read(kind, entry)
            if record is not None:
                try:
                    found[Bundle.parse(entry.key.removeprefix(prefix))] = record
                except InvalidInput as error:
                    _log.warning("cluster_key_unreadable", key=entry.key, reason=str(error))
        return found

    def _on_change(self, change: Change) -> None:
        # Most changes are leases renewed with the value they had.
        if change.value is None:
            self._values.pop(change.key, None)
        elif self._values.get(change.key) == change.value:
            return
        else:
            self._values[change.key] = change.value
        # A report of load alone moves nothing.
        if not change.key.startswith(keys.LOAD):
            self.changed.set()


def _read(kind: type[R], entry: Entry | None) -> R | None:
    """The record, or None when there is none or it cannot be read: one bad value must not stop the rest."""
    if entry is None:
        return None
    try:
        return decode_record(kind, entry.value)
    except CorruptData as error:
        _log.warning("cluster_record_unreadable", key=entry.key, reason=str(error))
        return None
