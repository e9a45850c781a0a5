"""The record of what outlives a bundle's cuts, read and changed."""

from __future__ import annotations

from collections.abc import Callable

from danube_common.archive.records import BundleArchive
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record
from danube_common.metadata.port import MetadataStore
from danube_common.metadata.rewrite import rewrite
from danube_common.model.bundle import Bundle


async def read_archive_state(store: MetadataStore, bundle: Bundle) -> BundleArchive:
    """An empty one if nothing was written yet. Raises MetadataUnavailable."""
    entry = await store.get(keys.archive_key(bundle))
    return decode_record(BundleArchive, entry.value) if entry else BundleArchive()


async def change_archive_state(
    store: MetadataStore, bundle: Bundle, change: Callable[[BundleArchive], BundleArchive]
) -> BundleArchive:
    """Write what ``change`` makes of the present record, and return it.

    It is asked again when another writer was faster; nothing is written if it changes nothing.
    Raises MetadataUnavailable.
    """
    result = BundleArchive()

    def changed(value: bytes | None) -> bytes | None:
        nonlocal result
        present = decode_record(BundleArchive, value) if value is not None else BundleArchive()
        result = change(present)
        return None if result == present else encode_record(result)

    await rewrite(store, keys.archive_key(bundle), changed)
    return result
