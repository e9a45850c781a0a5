"""What only the etcd store has to prove: leases, endpoints, authentication."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from aetcd import rpc  # type: ignore[import-untyped]

from danube_common.errors import Conflict, InvalidInput, MetadataUnavailable
from danube_common.metadata.etcd import LIST_PAGE_ENTRIES, EtcdMetadata
from danube_testing.etcd_server import EtcdServer, free_ports

PATIENCE_S = 20.0


@pytest_asyncio.fixture
async def channel(etcd_server: EtcdServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(etcd_server.endpoint.removeprefix("http://")) as channel:
        yield channel


@pytest_asyncio.fixture
async def store(etcd_server: EtcdServer) -> AsyncIterator[EtcdMetadata]:
    store = await EtcdMetadata.connect([etcd_server.endpoint])
    yield store
    await store.close()


async def leases(channel: grpc.aio.Channel) -> list[Any]:
    return list((await rpc.LeaseStub(channel).LeaseLeases(rpc.LeaseLeasesRequest())).leases)


async def test_renewing_keeps_one_lease(store: EtcdMetadata, channel: grpc.aio.Channel) -> None:
    revision = await store.put("/a", b"0", ttl_s=30)
    for _ in range(5):
        revision = await store.put("/a", b"1", expected_revision=revision, ttl_s=30)
    assert len(await leases(channel)) == 1


async def test_a_refused_put_leaves_no_lease(store: EtcdMetadata, channel: grpc.aio.Channel) -> None:
    await store.put("/a", b"0")
    for _ in range(5):
        with pytest.raises(Conflict):
            await store.put("/a", b"1", expected_revision=0, ttl_s=30)
    assert await leases(channel) == []


async def test_another_ttl_takes_effect(store: EtcdMetadata) -> None:
    await store.put("/a/lease", b"0", ttl_s=3600)
    revision = await store.put("/a/lease", b"1", ttl_s=1)
    async with asyncio.timeout(PATIENCE_S):
        change = await anext(store.watch("/a/", after_revision=revision))
    assert change.value is None


async def test_a_key_whose_lease_has_expired_is_put_anew(store: EtcdMetadata) -> None:
    revision = await store.put("/a/lease", b"0", ttl_s=1)
    async with asyncio.timeout(PATIENCE_S):
        assert (await anext(store.watch("/a/", after_revision=revision))).value is None
    await store.put("/a/lease", b"1", ttl_s=1)
    assert await store.get("/a/lease") is not None


async def test_a_lease_revoked_behind_our_back_is_replaced(
    store: EtcdMetadata, channel: grpc.aio.Channel
) -> None:
    await store.put("/a", b"0", ttl_s=30)
    (lease,) = await leases(channel)
    await rpc.LeaseStub(channel).LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease.ID))
    await store.put("/a", b"1", ttl_s=30)
    entry = await store.get("/a")
    assert entry is not None
    assert entry.value == b"1"


@pytest.mark.parametrize("count", [LIST_PAGE_ENTRIES - 1, LIST_PAGE_ENTRIES, LIST_PAGE_ENTRIES + 1])
async def test_a_listing_spans_pages(count: int, store: EtcdMetadata) -> None:
    keys = sorted(f"/a/{n}" for n in range(count))
    await asyncio.gather(*(store.put(key, b"") for key in keys))
    assert [entry.key for entry in (await store.list("/a/")).entries] == keys


async def test_a_dead_endpoint_is_passed_over(etcd_server: EtcdServer) -> None:
    (nobody,) = free_ports(1)
    store = await EtcdMetadata.connect([f"http://127.0.0.1:{nobody}", etcd_server.endpoint])
    revision = await store.put("/a/1", b"1")
    async with asyncio.timeout(PATIENCE_S):
        assert (await anext(store.watch("/a/", after_revision=revision - 1))).revision == revision
    await store.close()


async def test_no_endpoint_at_all_is_unavailable() -> None:
    (nobody,) = free_ports(1)
    with pytest.raises(MetadataUnavailable):
        await EtcdMetadata.connect([f"http://127.0.0.1:{nobody}"], timeout_s=0.5)


@pytest.mark.parametrize("endpoints", [[], [""], ["ftp://127.0.0.1:1"]])
async def test_an_endpoint_that_is_none_is_refused(endpoints: list[str]) -> None:
    with pytest.raises(InvalidInput):
        await EtcdMetadata.connect(endpoints)


async def test_a_user_is_authenticated_and_returns_when_its_token_has_expired(
    etcd_server: EtcdServer, channel: grpc.aio.Channel
) -> None:
    auth = rpc.AuthStub(channel)
    await auth.UserAdd(rpc.AuthUserAddRequest(name="root", password="secret"))
    await auth.RoleAdd(rpc.AuthRoleAddRequest(name="root"))
    await auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    await auth.AuthEnable(rpc.AuthEnableRequest())
    with pytest.raises(MetadataUnavailable):
        await EtcdMetadata.connect([etcd_server.endpoint], username="root", password="wrong")
    with pytest.raises(MetadataUnavailable):
        await EtcdMetadata.connect([etcd_server.endpoint])
    store = await EtcdMetadata.connect([etcd_server.endpoint], username="root", password="secret")
    revision = await store.put("/a/1", b"1", ttl_s=30)
    await etcd_server.restart()  # simple tokens do not survive it
    assert await store.get("/a/1") is not None
    async with asyncio.timeout(PATIENCE_S):
        assert (await anext(store.watch("/a/", after_revision=revision - 1))).revision == revision
    await store.close()
