"""Each service's certificate at etcd tries what is another's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from aetcd import rpc  # type: ignore[import-untyped]

from danube_common.cluster.key_writers import KINDS, etcd_grants
from danube_common.errors import MetadataUnavailable
from danube_common.metadata.etcd import EtcdMetadata
from danube_common.metadata.etcd_link import EtcdTls, open_stubs
from danube_common.metadata.etcd_users import ROOT, set_users
from danube_common.metadata.grant import Grant
from danube_harness.rpc.certificates import Authority
from danube_harness.servers.etcd_server import EtcdServer, ServerTls

pytestmark = [pytest.mark.server, pytest.mark.asyncio(loop_scope="module")]

WRITTEN = {
    "/cluster/layout": {"admin"},
    "/cluster/policies": {"admin"},
    "/cluster/leader": {"admin"},
    "/cluster/term": {"admin"},
    "/cluster/assignments/f0": {"admin"},
    "/cluster/drains/1": {"admin"},
    "/cluster/register/1": set(KINDS),
    "/cluster/owners/f0": {"topic-owner"},
    "/cluster/load/1": {"topic-owner"},
    "/namespaces/default/policy": {"admin"},
    "/topics/default/x/definition": {"gateway", "topic-owner", "admin"},
    "/storage/id": {"storage", "admin"},
    "/storage/cuts/f0/1": {"storage", "admin"},
    "/schemas/last_id": {"gateway", "admin"},
    "/security/roles/x": {"admin"},
    "/connect": set(),
    "/anything": set(),
}
READ = {
    "/cluster/": set(KINDS),
    "/namespaces/": set(KINDS),
    "/topics/": set(KINDS),
    "/storage/": set(KINDS),
    "/schemas/": set(KINDS),
    "/security/": {"gateway", "admin"},
    "/anything/": set(),
    "/": set(),
}


class Guarded:
    """An etcd server whose users are those of the platform."""

    def __init__(self, server: EtcdServer, authority: Authority) -> None:
        self.endpoint = server.endpoint.removeprefix("https://")
        self._authority = authority

    def tls(self, name: str) -> EtcdTls:
        cert, key = self._authority.issue(name)
        return EtcdTls(self._authority.file.read_bytes(), cert.read_bytes(), key.read_bytes())

    async def connect(self, name: str) -> EtcdMetadata:
        return await EtcdMetadata.connect([self.endpoint], tls=self.tls(name), timeout_s=5.0)

    async def set(self, **changed: list[Grant]) -> None:
        users = {kind: etcd_grants(kind) for kind in KINDS} | changed
        await set_users(self.endpoint, self.tls(ROOT), users)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    folder = tmp_path_factory.mktemp("etcd")
    authority = Authority(folder)
    tls = ServerTls(authority.file, *authority.issue("server"))
    async with EtcdServer.run(folder, tls=tls) as server:
        etcd = Guarded(server, authority)
        await etcd.set()
        yield etcd


async def done(tried: Awaitable[object]) -> bool:
    """Whether it was allowed; anything but a want of permission is raised."""
    try:
        await tried
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
            raise
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_writes_and_reads_only_its_keys_in_etcd(guarded: Guarded, kind: str) -> None:
    stubs = open_stubs(guarded.endpoint, guarded.tls(kind))
    kv, auth = stubs.kv, stubs.auth
    for key, kinds in WRITTEN.items():
        may = kind in kinds
        assert await done(kv.Put(rpc.PutRequest(key=key.encode(), value=b"x"))) is may, key
        assert await done(kv.DeleteRange(rpc.DeleteRangeRequest(key=key.encode()))) is may, key
    for prefix, kinds in READ.items():
        grant = Grant.of(prefix)
        asked = rpc.RangeRequest(key=grant.start, range_end=grant.end)
        assert await done(kv.Range(asked)) is (kind in kinds), prefix
    assert await done(kv.Range(rpc.RangeRequest(key=b"/connect")))
    assert not await done(auth.UserList(rpc.AuthUserListRequest()))
    assert not await done(auth.AuthDisable(rpc.AuthDisableRequest()))
    await stubs.channel.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_watches_and_holds_leases_with_its_certificate(guarded: Guarded, kind: str) -> None:
    store = await guarded.connect(kind)
    key = f"/cluster/register/{kind}"
    revision = await store.put(key, b"1", ttl_s=30)
    await store.put(key, b"2", ttl_s=30)
    change = await anext(store.watch("/cluster/", after_revision=revision - 1))
    assert (change.key, change.value) == (key, b"1")
    await store.close()


async def test_a_certificate_of_nobody_whom_etcd_knows_gives_nothing(guarded: Guarded) -> None:
    with pytest.raises(MetadataUnavailable):
        await guarded.connect("somebody")


async def test_what_a_service_no_longer_may_is_taken_from_it(guarded: Guarded) -> None:
    store = await guarded.connect("storage")
    await guarded.set(storage=[Grant(b"/connect", b"", writes=False), Grant.of("/storage/")])
    assert await store.get("/storage/id") is None
    with pytest.raises(MetadataUnavailable):
        await store.put("/storage/id", b"x")
    await guarded.set()
    await store.put("/storage/id", b"x")
    await store.close()


async def test_only_root_changes_users(guarded: Guarded) -> None:
    with pytest.raises(MetadataUnavailable, match="permission denied"):
        await set_users(guarded.endpoint, guarded.tls("admin"), {"admin": [Grant.of("/")]})
