"""Registration of live processes: each holds a leased key under ``/cluster/register/``."""

from __future__ import annotations

from danube_common.cluster import keys
from danube_common.cluster.records import Instance, encode_record
from danube_common.metadata.lease import Lease
from danube_common.metadata.port import MetadataStore

INSTANCE_TTL_S = 5.0
"""A process that does not renew for this long counts as dead."""


async def register(store: MetadataStore, instance: Instance, *, ttl_s: float = INSTANCE_TTL_S) -> Lease:
    """Register this process. A restarted process of the same id takes over its old key."""
    return await Lease.acquire(store, keys.instance_key(instance.instance_id), encode_record(instance), ttl_s)
