"""The segment stores of one storage instance, by backend."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from danube_common.cluster import keys
from danube_common.errors import Conflict, StoreUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.strategy import StorageBackend
from danube_storage.segments.disk import DiskStore
from danube_storage.segments.port import LocalStore, SegmentStore
from danube_storage.segments.s3 import S3Store

ARCHIVE_ID_BYTES = 8


class Stores:
    """One store for each configured backend."""

    def __init__(self, stores: Mapping[StorageBackend, SegmentStore]) -> None:
        self._stores = dict(stores)

    @property
    def configured(self) -> frozenset[StorageBackend]:
        """The configured backends."""
        return frozenset(self._stores)

    @property
    def disk(self) -> LocalStore:
        """The store on disk, which every instance has."""
        store = self.of(StorageBackend.DISK)
        if not isinstance(store, LocalStore):
            raise TypeError(f"{type(store).__name__} cannot replace a damaged segment")
        return store

    def of(self, backend: StorageBackend) -> SegmentStore:
        """Return the store of a backend. Raises StoreUnavailable if the backend is not configured."""
        store = self._stores.get(backend)
        if store is None:
            raise StoreUnavailable(f"this storage instance has no store for {backend}: see --s3-bucket")
        return store

    async def close(self) -> None:
        """Close all stores. Idempotent."""
        for store in self._stores.values():
            await store.close()


async def archive_id(store: MetadataStore) -> str:
    """Return the name of this cluster's archive, which is drawn at random once. Raises MetadataUnavailable.

    It is part of every key. So two clusters that share a directory or bucket by mistake do not delete each
    other's segments as orphans.
    """
    while True:
        entry = await store.get(keys.ARCHIVE_ID)
        if entry is not None:
            return entry.value.decode()
        try:
            await store.put(
                keys.ARCHIVE_ID, secrets.token_hex(ARCHIVE_ID_BYTES).encode(), expected_revision=0
            )
        except Conflict:
            continue


async def open_stores(
    name: str,
    instance_id: str,
    data_dir: Path,
    *,
    s3_bucket: str = "",
    s3_prefix: str = "",
    s3_endpoint_url: str | None = None,
    s3_region: str | None = None,
) -> Stores:
    """Open the configured stores. Nothing is written yet.

    Args:
        name: the archive's name, see `archive_id`.
        instance_id: part of the path, as instances on one machine may share a directory.
        data_dir: the directory of disk segments.
        s3_bucket: the bucket; empty for no S3.
        s3_prefix: of all keys; empty or ending with a slash.
        s3_endpoint_url: of an S3-compatible store other than Amazon S3.
        s3_region: overrides environment and profile.

    Raises:
        InvalidInput: the prefix is invalid.
        StoreUnavailable: the S3 settings are invalid.
    """
    stores: dict[StorageBackend, SegmentStore] = {}
    if s3_bucket:
        stores[StorageBackend.S3] = await S3Store.connect(
            s3_bucket, prefix=f"{s3_prefix}{name}/", endpoint_url=s3_endpoint_url, region=s3_region
        )
    stores[StorageBackend.DISK] = DiskStore(data_dir / name / instance_id)
    return Stores(stores)
