"""Namespaces. A namespace exists as long as its policy key exists."""

from __future__ import annotations

from danube_common.cluster import keys
from danube_common.cluster.partitioning import existing_topics
from danube_common.cluster.records import Namespace, decode_record, encode_record, read_record, read_records
from danube_common.errors import AlreadyExists, Conflict, NotFound, Refused
from danube_common.metadata.port import MetadataStore
from danube_common.metadata.rewrite import rewrite
from danube_common.model.names import check_namespace
from danube_common.model.policies import PolicyOverrides, check_overrides

DEFAULT_NAMESPACES = ("default", "system")


class Namespaces:
    """Reads and changes namespaces in the metadata store itself."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    async def create(self, name: str, policies: PolicyOverrides | None = None) -> None:
        """Create a namespace. Raises InvalidName, AlreadyExists."""
        check_namespace(name)
        record = Namespace(name, policies or PolicyOverrides())
        try:
            await self._store.put(keys.namespace_key(name), encode_record(record), expected_revision=0)
        except Conflict:
            raise AlreadyExists(f"namespace {name!r} exists already") from None

    async def ensure(self, name: str) -> None:
        """Create a namespace if it is missing."""
        try:
            await self.create(name)
        except AlreadyExists:
            return

    async def get(self, name: str) -> Namespace:
        """Return a namespace. Raises NotFound."""
        namespace = await read_record(self._store, keys.namespace_key(name), Namespace)
        if namespace is None:
            raise NotFound(f"namespace {name!r} does not exist")
        return namespace

    async def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(one.name for one in await read_records(self._store, keys.NAMESPACES, Namespace))

    async def set_policies(self, name: str, changes: PolicyOverrides, *, clear: bool = False) -> None:
        """Set the policies in ``changes``; keep the others, or with ``clear`` unset them.

        Raises InvalidInput, NotFound, MetadataUnavailable.
        """
        check_overrides(changes)

        def merged(value: bytes | None) -> bytes:
            if value is None:
                raise NotFound(f"namespace {name!r} does not exist")
            present = decode_record(Namespace, value).policies
            return encode_record(Namespace(name, changes if clear else changes.over(present)))

        await rewrite(self._store, keys.namespace_key(name), merged)

    async def delete(self, name: str) -> None:
        """Delete a namespace. Raises NotFound, and Refused while it has topics."""
        entry = await self._store.get(keys.namespace_key(name))
        if entry is None:
            raise NotFound(f"namespace {name!r} does not exist")
        await self._check_empty(name)
        await self._store.delete(entry.key, expected_revision=entry.revision)
        try:
            await self._check_empty(name)
        except Refused:
            await self._store.put(entry.key, entry.value, expected_revision=0)
            raise

    async def _check_empty(self, name: str) -> None:
        listing = await self._store.list(keys.namespace_topics_prefix(name))
        topics, partitioned = existing_topics(listing.entries)
        if topics or partitioned:
            raise Refused(f"namespace {name!r} still has topics")
