"""Reads the archive state of a bundle: what stays when manifest entries are removed."""

from __future__ import annotations

from danube_common.archive.records import BundleArchive
from danube_common.cluster import keys
from danube_common.cluster.records import read_record
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle


async def read_archive_state(store: MetadataStore, bundle: Bundle) -> BundleArchive:
    """Return the stored state; an empty one if there is none. Raises MetadataUnavailable."""
    return await read_record(store, keys.archive_key(bundle), BundleArchive) or BundleArchive()
