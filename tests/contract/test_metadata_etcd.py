"""What only the etcd store has to prove: leases, endpoints, authentication."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from aetcd import rpc  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from danube_common.errors import Conflict, InvalidInput, MetadataUnavailable
from danube_common.metadata.etcd import LIST_PAGE_ENTRIES, EtcdMetadata
from danube_common.metadata.lease import Lease
from danube_common.runtime.config import ServiceConfig
from danube_common.runtime.etcd_access import etcd_access
from danube_common.runtime.ports import open_ports
from danube_common.runtime.service import Runtime
from danube_harness.servers.etcd_cluster import EtcdCluster
from danube_harness.servers.etcd_server import EtcdServer, ServerTls
from danube_harness.servers.nats_server import NatsServer
from danube_harness.servers.server import HOST, free_ports

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


async def test_a_paused_member_costs_neither_a_lease_nor_a_watch(tmp_path: Path) -> None:
    async with EtcdCluster.run(tmp_path) as cluster:
        store = await EtcdMetadata.connect(cluster.endpoints)
        other = await EtcdMetadata.connect(list(reversed(cluster.endpoints)))
        lease = await Lease.acquire(store, "/a/lease", b"mine", 8)
        changes = store.watch("/b/", after_revision=lease.revision)
        waiting = asyncio.ensure_future(anext(changes))
        await other.put("/b/1", b"1")
        async with asyncio.timeout(PATIENCE_S):
            assert (await waiting).key == "/b/1"
            cluster.members[0].pause()
            waiting = asyncio.ensure_future(anext(changes))
            await put_until_stored(other, "/b/2")  # the leader's own requests die with it
            assert (await waiting).key == "/b/2"
        # For longer than its ttl, by what the store itself shows; also when the members elect meanwhile.
        renewed = other.watch("/a/", after_revision=lease.revision)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                assert (await anext(renewed)).value == b"mine"
        assert lease.held
        cluster.members[0].resume()
        await lease.release()
        await store.close()
        await other.close()


async def test_members_are_killed_one_after_another_while_one_handle_works(tmp_path: Path) -> None:
    async with EtcdCluster.run(tmp_path) as cluster:
        store = await EtcdMetadata.connect(cluster.endpoints)
        revision = (await store.list("/a/")).revision
        changes = store.watch("/a/", after_revision=revision)
        async with asyncio.timeout(PATIENCE_S):
            for number, member in enumerate(cluster.members):
                await member.kill()
                await put_until_stored(store, f"/a/{number}")
                assert (await anext(changes)).key == f"/a/{number}"
                await member.restart()
        await store.close()


async def put_until_stored(store: EtcdMetadata, key: str) -> None:
    """What a caller does with Unavailable; a repeat of what was stored is recognised."""
    while True:
        try:
            await store.put(key, b"", expected_revision=0)
            return
        except MetadataUnavailable:
            await asyncio.sleep(0.05)
        except Conflict:
            return


class Certificates:
    """An authority, and what it issued: for the server on HOST and for one client."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.ca = self._write("ca.pem", self._signed(self._name, self._key, authority=True))
        self.server = self._issue("server")
        self.client = self._issue("client")

    def _issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return (
            self._write(f"{name}.pem", self._signed(subject, key, authority=False)),
            self._write(f"{name}.key", private),
        )

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> bytes:
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)

    def _write(self, name: str, content: bytes) -> Path:
        file = self._directory / name
        file.write_bytes(content)
        return file


async def test_a_service_reaches_etcd_over_tls_with_its_certificate_only(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    issued, strangers = tmp_path / "issued", tmp_path / "strangers"
    issued.mkdir()
    strangers.mkdir()
    ours, theirs = Certificates(issued), Certificates(strangers)
    tls = ServerTls(ours.ca, *ours.server)
    async with EtcdServer.run(tmp_path, tls=tls) as server:
        endpoint = server.endpoint.removeprefix("https://")

        def config(ca: Path, pair: tuple[Path, Path] | None) -> ServiceConfig:
            return ServiceConfig(
                nats_url=nats_server.url,
                metadata=f"etcd://{endpoint}",
                etcd_ca_file=ca,
                etcd_cert_file=pair[0] if pair else None,
                etcd_key_file=pair[1] if pair else None,
            )

        for ca, pair in ((ours.ca, None), (ours.ca, theirs.client), (theirs.ca, ours.client)):
            tls_shown = etcd_access(config(ca, pair)).tls
            with pytest.raises(MetadataUnavailable):
                await EtcdMetadata.connect([endpoint], tls=tls_shown, timeout_s=1.0)
        with pytest.raises(MetadataUnavailable):
            await EtcdMetadata.connect([endpoint], timeout_s=1.0)
        async with open_ports(Runtime("storage", "1"), config(ours.ca, ours.client)) as ports:
            store = ports.metadata
            revision = await store.put("/a/1", b"1", ttl_s=30)
            async with asyncio.timeout(PATIENCE_S):
                assert (await anext(store.watch("/a/", after_revision=revision - 1))).revision == revision
