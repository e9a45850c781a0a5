"""This process's view of ``/cluster/`` in the metadata store: decoded records behind one mirror."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Self, TypeVar

import msgspec
import structlog

from danube_common.cluster import keys
from danube_common.cluster.load import LoadReport
from danube_common.cluster.owner_client import OwnerListener
from danube_common.cluster.records import Assignment, Claim, Drain, Instance, Layout, decode_record
from danube_common.errors import CorruptData, InvalidInput, MetadataUnavailable
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.policies import Policies

ADMIN_KIND: Final = "admin"
GATEWAY_KIND: Final = "gateway"
OWNER_KIND: Final = "topic-owner"
NOBODY: Final = Instance("", "", "")
CATCH_UP_TIMEOUT_S: Final = 2.0

R = TypeVar("R", bound=msgspec.Struct)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class LeaderRecord(msgspec.Struct, frozen=True):
    """The leading admin instance; ``nonce`` differs between two terms of one instance."""

    instance_id: str
    nonce: str


_RECORDS: Final[dict[str, type[msgspec.Struct]]] = {
    keys.REGISTER: Instance,
    keys.DRAINS: Drain,
    keys.LOAD: LoadReport,
    keys.ASSIGNMENTS: Assignment,
    keys.OWNERS: Claim,
    keys.LEADER: LeaderRecord,
    keys.LAYOUT: Layout,
    keys.BROKER_POLICIES: Policies,
}
"""The kind of record below each prefix, or at a single key."""


class Cluster:
    """The cluster as last seen: possibly behind the store, never ahead. Readable while the store is away.

    A record that cannot be read is logged and counts as absent, so that it does not stop the rest.

    Attributes:
        changed: set when something an assignment depends on has changed; its reader clears it.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._records: dict[type[msgspec.Struct], dict[str, Any]] = {kind: {} for kind in _RECORDS.values()}
        self._owner_listeners: list[OwnerListener] = []
        self._mirror: Mirror | None = None

    @classmethod
    async def open(cls, store: MetadataStore) -> Self:
        """Return once everything stored so far was read. Raises MetadataUnavailable."""
        cluster = cls()
        cluster._mirror = await Mirror.open(store, keys.CLUSTER, cluster._on_change)
        return cluster

    async def close(self) -> None:
        """Stop following the store."""
        await self._entries.close()

    @property
    def leader(self) -> str | None:
        """The instance id of the leading admin instance."""
        record = self._of(LeaderRecord).get(keys.LEADER)
        return record.instance_id if record else None

    @property
    def owners(self) -> set[str]:
        """Instance ids of the living topic-owners."""
        return {one.instance_id for one in self._of(Instance).values() if one.kind == OWNER_KIND}

    @property
    def instances(self) -> list[Instance]:
        """The living processes of all kinds."""
        return list(self._of(Instance).values())

    def kind(self, instance_id: str) -> str | None:
        """Return what kind of process an id is of; None if there is no such process."""
        instance = self._of(Instance).get(keys.instance_key(instance_id)) if instance_id else None
        return instance.kind if instance else None

    @property
    def gateway_url(self) -> str:
        """The URL of the gateway that has run longest; empty if none runs."""
        gateways = (one for one in self._of(Instance).values() if one.kind == GATEWAY_KIND)
        return min(gateways, key=age_order, default=NOBODY).address

    @property
    def drains(self) -> dict[str, Drain]:
        """By instance id: topic-owners, living or not, that are to have no bundles."""
        return {one.instance_id: one for one in self._of(Drain).values()}

    @property
    def eligible_owners(self) -> set[str]:
        """The living owners that bundles may be given to: drained ones only while no other lives."""
        return self.owners - self.drains.keys() or self.owners

    @property
    def loads(self) -> dict[str, LoadReport]:
        """The last load reports, by instance id; also those of owners that are gone since."""
        return {one.instance_id: one for one in self._of(LoadReport).values()}

    @property
    def assignments(self) -> dict[Bundle, Assignment]:
        """The assignment of each bundle that has one."""
        return _by_bundle(keys.ASSIGNMENTS, self._of(Assignment))

    @property
    def assigned(self) -> dict[Bundle, str]:
        """The instance id of the owner that each bundle is assigned to."""
        return {bundle: record.instance_id for bundle, record in self.assignments.items()}

    @property
    def claimed(self) -> dict[Bundle, str]:
        """The instance id of the owner that serves each bundle."""
        claims = _by_bundle(keys.OWNERS, self._of(Claim))
        return {bundle: record.instance_id for bundle, record in claims.items()}

    @property
    def layout(self) -> Layout | None:
        """The layout, or None until a leader has written it."""
        return self._of(Layout).get(keys.LAYOUT)

    def epoch(self, bundle: Bundle) -> int | None:
        """Return the epoch of the bundle's present owner, or None while nobody has claimed the bundle."""
        return self.revision(keys.owner_key(bundle)) or None

    def on_owner(self, listener: OwnerListener) -> None:
        """Call ``listener`` with (bundle, epoch) when a bundle has a new owner."""
        self._owner_listeners.append(listener)

    def value(self, key: str) -> bytes | None:
        """Return the value of a key, or None."""
        entry = self._entries.get(key)
        return entry.value if entry else None

    def revision(self, key: str) -> int:
        """Return the revision that a write of the key must expect; 0 if the key does not exist."""
        entry = self._entries.get(key)
        return entry.revision if entry else 0

    async def catch_up(self, revision: int) -> None:
        """Wait until this view holds what was written at ``revision``. Raises MetadataUnavailable."""
        await self._entries.catch_up(revision, CATCH_UP_TIMEOUT_S)

    async def until_vacant(self, timeout_s: float) -> None:
        """Wait until there is no leader, at most ``timeout_s``."""
        await self.until(lambda: self.leader is None, timeout_s)

    async def until_settled(self, timeout_s: float) -> None:
        """Wait until there is a leader and a layout. Raises MetadataUnavailable after ``timeout_s``."""
        if not await self.until(lambda: self.leader is not None and self.layout is not None, timeout_s):
            missing = "layout" if self.leader else "leader"
            raise MetadataUnavailable(f"the cluster has no {missing} after {timeout_s:g} s")

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``condition`` holds; return False if it did not within ``timeout_s``."""
        try:
            await self._entries.wait_for(lambda _: condition(), timeout_s)
        except TimeoutError:
            return False
        return True

    @property
    def _entries(self) -> Mirror:
        if self._mirror is None:
            raise RuntimeError("the cluster view is not open")
        return self._mirror

    def _of(self, kind: type[R]) -> dict[str, R]:
        """The records of one kind, by key."""
        return self._records[kind]

    def _on_change(self, change: Change) -> None:
        for prefix, kind in _RECORDS.items():
            if change.key.startswith(prefix):
                self._record_changed(kind, change)
        if change.key.startswith(keys.OWNERS) and change.value is not None:
            for listener in self._owner_listeners:
                listener(Bundle.parse(change.key.removeprefix(keys.OWNERS)), change.revision)

    def _record_changed(self, kind: type[msgspec.Struct], change: Change) -> None:
        known = self._records[kind]
        before = known.pop(change.key, None)
        if change.value is not None:
            try:
                known[change.key] = decode_record(kind, change.value)
            except CorruptData as error:
                _log.warning("cluster_record_unreadable", key=change.key, reason=str(error))
        # Most changes are leases renewed with the value they had. A load report alone moves no bundle.
        if known.get(change.key) != before and kind is not LoadReport:
            self.changed.set()


def age_order(instance: Instance) -> tuple[int, str]:
    """Sort instances by this: the one that has run longest comes first."""
    return instance.started_ms, instance.instance_id


def _by_bundle(prefix: str, records: Mapping[str, R]) -> dict[Bundle, R]:
    found: dict[Bundle, R] = {}
    for key, record in records.items():
        try:
            found[Bundle.parse(key.removeprefix(prefix))] = record
        except InvalidInput as error:
            _log.warning("cluster_key_unreadable", key=key, reason=str(error))
    return found
