from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio
from aiohttp import ClientSession, CookieJar
from services.admin.tests.api.admin_port import LAYOUT, NOW_MS
from services.admin.tests.console.browser import Browser

from danube_admin_service.api.methods import admin_methods
from danube_admin_service.cluster.load_manager import LoadManager, RebalanceRules
from danube_admin_service.cluster.ranking import LoadStrategy
from danube_admin_service.cluster.view import Cluster
from danube_admin_service.console.access.gateways import Gateways
from danube_admin_service.console.access.visitor import Door
from danube_admin_service.console.live.activity import Activity
from danube_admin_service.console.served import Served
from danube_admin_service.console.site import Site
from danube_admin_service.console.sources import Sources
from danube_admin_service.service import OWNER_TIMEOUT_S
from danube_common.cluster import keys
from danube_common.cluster.namespaces import DEFAULT_NAMESPACES, Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Instance, encode_record
from danube_common.cluster.topics import Topics
from danube_common.rpc.guard import Guard
from danube_common.runtime.auth_config import AuthConfig
from danube_common.runtime.http import Health, HttpServer
from danube_common.runtime.metrics import Metrics
from danube_common.runtime.tls_config import TlsConfig
from danube_common.security.audit import AuditLog
from danube_common.security.authenticator import Authenticator
from danube_common.security.identity import Identity
from danube_common.security.policies import SecurityPolicies
from danube_harness.memory.bus import MemoryBus, MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.rpc.credentials import ADMIN, secret_file
from danube_harness.services.fake_owner import FakeOwner


async def open_browser(stack: AsyncExitStack, folder: Path | None = None) -> Browser:
    """Serve the console; with a folder for its keys, it asks for credentials."""
    store, log, bus = MemoryMetadata(), MemoryLog(), MemoryBus(MemoryHub())
    stack.push_async_callback(bus.close)
    await store.put(keys.LAYOUT, encode_record(LAYOUT))
    namespaces = Namespaces(store)
    for namespace in DEFAULT_NAMESPACES:
        await namespaces.ensure(namespace)
    for instance in (
        Instance("71", "topic-owner", ""),
        Instance("5", "gateway", "", "http://127.0.0.1:6650"),
    ):
        await store.put(keys.instance_key(instance.instance_id), encode_record(instance))
    owner = FakeOwner(store, bus, "71")
    await owner.claim(LAYOUT.bundles())
    cluster = await Cluster.open(store)
    stack.push_async_callback(cluster.close)
    manager = LoadManager(store, cluster, LoadStrategy.FAIR, RebalanceRules(rest_s=0), now_ms=lambda: NOW_MS)
    owners = OwnerClient(bus, cluster, timeout_s=OWNER_TIMEOUT_S)
    methods = admin_methods(store, log, owners, cluster, manager, instance_id="1", now_ms=lambda: NOW_MS)
    guard, audit_file = None, None
    if folder is not None:
        audit_file = folder / "audit.log"
        guard = await _guard(stack, store, folder, audit_file)
    topics = Topics(store, log, now_ms=lambda: NOW_MS)
    sources = Sources(
        Activity(), cluster, namespaces, topics, owners, Gateways(lambda: cluster.instances), None, audit_file
    )
    site = Site()
    http = HttpServer(Health(), Metrics("admin", "1"), TlsConfig(), dict, site.app)
    stack.push_async_callback(http.stop)
    client = ClientSession(await http.start("127.0.0.1:0"), cookie_jar=CookieJar(unsafe=True))
    stack.push_async_callback(client.close)
    site.open(Served(Door(methods, guard), sources, origins=["http://ui.example:3000"]))
    stack.callback(site.close)
    return Browser(client, site, sources, store, topics, owner, methods)


async def _guard(stack: AsyncExitStack, store: MemoryMetadata, folder: Path, audit_file: Path) -> Guard:
    config = AuthConfig(enabled=True, super_admins=[ADMIN], secret_key_file=secret_file(folder))
    policies = await SecurityPolicies.open(store, [Identity.parse(ADMIN)])
    stack.push_async_callback(policies.close)
    authenticator = Authenticator(config, policies)
    stack.push_async_callback(authenticator.close)
    await authenticator.start()
    audit = AuditLog(audit_file)
    audit.start()
    stack.callback(audit.close)
    return Guard(authenticator, policies, Metrics("test", "1"), audit)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """Nobody is asked for credentials."""
    async with AsyncExitStack() as stack:
        yield await open_browser(stack)


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Browser]:
    """Everybody is."""
    async with AsyncExitStack() as stack:
        yield await open_browser(stack, tmp_path)
