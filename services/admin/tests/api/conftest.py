from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from services.admin.tests.api.admin_port import LAYOUT, NOW_MS, Admin

from danube_admin_service.api.methods import admin_methods
from danube_admin_service.cluster.load_manager import LoadManager, RebalanceRules
from danube_admin_service.cluster.ranking import LoadStrategy
from danube_admin_service.cluster.view import Cluster
from danube_admin_service.service import OWNER_TIMEOUT_S
from danube_common.cluster import keys
from danube_common.cluster.namespaces import DEFAULT_NAMESPACES, Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import encode_record
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.services.fake_owner import FakeOwner


@pytest_asyncio.fixture
async def admin() -> AsyncIterator[Admin]:
    store, log, hub = MemoryMetadata(), MemoryLog(), MemoryHub()
    bus = MemoryBus(hub)
    await store.put(keys.LAYOUT, encode_record(LAYOUT))
    for namespace in DEFAULT_NAMESPACES:
        await Namespaces(store).ensure(namespace)
    owner = FakeOwner(store, bus, "71")
    await owner.claim(LAYOUT.bundles())
    cluster = await Cluster.open(store)
    manager = LoadManager(store, cluster, LoadStrategy.FAIR, RebalanceRules(rest_s=0), now_ms=lambda: NOW_MS)
    owners = OwnerClient(bus, cluster, timeout_s=OWNER_TIMEOUT_S)
    methods = admin_methods(store, log, owners, cluster, manager, instance_id="1", now_ms=lambda: NOW_MS)
    yield Admin(store, log, hub, methods, owner)
    await cluster.close()
    await bus.close()
