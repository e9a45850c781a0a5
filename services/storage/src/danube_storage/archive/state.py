"""The archive state of a bundle: what stays when manifest entries are compacted away."""

from __future__ import annotations

from collections.abc import Callable

from danube_common.archive.records import BundleArchive
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record
from danube_common.metadata.port import MetadataStore
from danube_common.metadata.rewrite import rewrite
from danube_common.model.bundle import Bundle


async def change_archive_state(
    store: MetadataStore, bundle: Bundle, change: Callable[[BundleArchive], BundleArchive]
) -> BundleArchive:
    """Store what ``change`` returns for the present state, and return it.

    ``change`` is called again when another writer was faster. Nothing is written if ``change`` returns an
    equal state. Raises MetadataUnavailable.
    """
    result = BundleArchive()

    def changed(value: bytes | None) -> bytes | None:
        nonlocal result
        present = decode_record(BundleArchive, value) if value is not None else BundleArchive()
        result = change(present)
        return None if result == present else encode_record(result)

    await rewrite(store, keys.archive_key(bundle), changed)
    return result
