"""The certificates of the container stack at real NATS and etcd servers, without a container engine."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
import yaml
from pydantic import SecretStr
from tests.compose.stack import COMPOSE_DIR
from tests.compose.test_files import made_for

import danube_client
from danube_admin_service.cluster.etcd_users import main as make_users
from danube_common.bus.nats import NatsBus
from danube_common.cluster.key_writers import KINDS
from danube_common.errors import BusUnavailable, MetadataUnavailable
from danube_common.metadata.etcd import EtcdMetadata
from danube_common.runtime.config import ServiceConfig
from danube_common.runtime.etcd_access import etcd_access
from danube_common.runtime.nats_access import nats_access
from danube_common.runtime.ports import open_ports
from danube_common.runtime.service import Runtime
from danube_harness.platforms.service_process import ServiceProcess
from danube_harness.servers.etcd_server import EtcdServer
from danube_harness.servers.nats_server import NatsServer
from danube_harness.servers.server import HOST, free_ports
from danube_standalone.nats_config import ClusterMember
from danube_standalone.nats_users import OPERATOR

pytestmark = [pytest.mark.server, pytest.mark.asyncio(loop_scope="module")]

PATIENCE_S: Final = 10.0
PASSWORDS: Final = {user: f"password of {user}" for user in (*KINDS, OPERATOR)}
FLAGS: Final = yaml.safe_load((COMPOSE_DIR / "docker-compose.yml").read_text())["services"]["etcd"]


class StackEtcd(EtcdServer):
    """With the flags of the compose file; the addresses are this machine's."""

    def __init__(self, directory: Path, certificates: Path) -> None:
        super().__init__(directory)
        self._certificates = certificates

    @property
    def endpoint(self) -> str:
        return f"https://{HOST}:{self._client_port}"

    @property
    def peer_url(self) -> str:
        return f"https://{HOST}:{self._peer_port}"

    def _tls_flags(self) -> list[str]:
        flags: list[str] = FLAGS["entrypoint"]
        own = ("--data-dir", "--listen-", "--initial-")
        return [
            flag.replace("=/tls/", f"={self._certificates / 'etcd'}/")
            for flag in flags[1:]
            if not flag.startswith(own)
        ]


class Inside:
    """NATS and etcd of the stack, and the configuration of each service."""

    def __init__(self, certificates: Path, nats: Sequence[NatsServer], etcd: StackEtcd, port: int) -> None:
        self.certificates = certificates
        self.nats = nats
        self.etcd = etcd
        self.route_port = port

    def pair(self, holder: str, name: str = "tls") -> tuple[Path, Path]:
        """The files of a certificate and its key."""
        folder = self.certificates / holder
        return folder / f"{name}.crt", folder / f"{name}.key"

    def config(self, kind: str, holder: str | None = None, authority: str | None = None) -> ServiceConfig:
        own = self.certificates / (holder or kind)
        ca = self.certificates / (authority or kind) / "ca.crt"
        return ServiceConfig(
            nats_url=self.nats[0].url,
            nats_user=kind,
            nats_password=SecretStr(PASSWORDS[kind]),
            metadata=f"etcd://{self.etcd.endpoint.removeprefix('https://')}",
            nats_ca_file=ca,
            nats_cert_file=own / "tls.crt",
            nats_key_file=own / "tls.key",
            etcd_ca_file=ca,
            etcd_cert_file=own / "tls.crt",
            etcd_key_file=own / "tls.key",
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inside(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inside]:
    folder = tmp_path_factory.mktemp("inside")
    certificates, strangers = folder / "tls", folder / "strangers"
    made_for(certificates)
    made_for(strangers)
    (certificates / "stranger").symlink_to(strangers / "gateway")
    ports = free_ports(4)
    routes = [f"{HOST}:{port}" for port in ports[2:]]
    servers = []
    for number in (0, 1):
        home = folder / f"nats-{number}"
        home.mkdir()
        member = ClusterMember("inside", ports[2 + number], routes)
        servers.append(
            NatsServer(
                home,
                name=home.name,
                port=ports[number],
                cluster=member,
                passwords=PASSWORDS,
                tls=certificates / "nats",
            )
        )
    etcd = StackEtcd(folder, certificates)
    try:
        await asyncio.gather(*(one.start() for one in (*servers, etcd)))
        yield Inside(certificates, servers, etcd, ports[2])
    finally:
        for one in (*servers, etcd):
            await one.kill()


async def test_each_service_works_with_its_certificate_once_etcd_has_its_users(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = inside.etcd.endpoint.removeprefix("https://")
    monkeypatch.setattr("sys.argv", ["etcd_users", address, str(inside.certificates / "root")])
    for _ in range(2):  # as each start of the stack does
        assert await asyncio.to_thread(make_users) == 0
    for kind in KINDS:
        config = inside.config(kind)
        store = await EtcdMetadata.connect(config.etcd_endpoints, tls=etcd_access(config).tls)
        await store.put(f"/cluster/register/{kind}", b"x", ttl_s=30)
        with pytest.raises(MetadataUnavailable, match="permission denied"):
            await store.put("/connect", b"x")
        await store.close()
        bus = await NatsBus.connect(config.nats_urls, name=kind, access=nats_access(config))
        await bus.close()


def answer(port: int, own: tuple[Path, Path] | None, asked: bytes, *, nats: bool = False) -> bytes:
    """What a port says to somebody with a certificate; nothing if it refuses them. Blocks."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if own is not None:
        context.load_cert_chain(*own)
    with socket.create_connection((HOST, port), timeout=PATIENCE_S) as plain:
        if nats:
            assert plain.recv(4096).startswith(b"INFO")
        try:
            with context.wrap_socket(plain) as connection:
                connection.sendall(asked)
                return connection.recv(4096)  # TLS 1.3 refuses after the handshake
        except OSError:
            return b""


@pytest.mark.parametrize("holder", ["stranger", None])
async def test_without_a_certificate_of_the_stack_neither_is_reached(
    inside: Inside, holder: str | None
) -> None:
    own = inside.pair("stranger") if holder else None
    port = int(inside.nats[0].url.rpartition(":")[2])
    asked = f'CONNECT {{"user":"gateway","pass":"{PASSWORDS["gateway"]}"}}\r\nPING\r\n'.encode()
    assert (
        await asyncio.to_thread(answer, port, inside.pair("gateway"), asked, nats=True) == b"+OK\r\nPONG\r\n"
    )
    assert await asyncio.to_thread(answer, port, own, asked, nats=True) == b""
    config = inside.config("gateway", holder)
    if holder is None:
        config = config.model_copy(update={"etcd_cert_file": None, "etcd_key_file": None})
    with pytest.raises(MetadataUnavailable):
        await EtcdMetadata.connect(config.etcd_endpoints, tls=etcd_access(config).tls, timeout_s=0.5)


async def test_a_certificate_does_not_replace_the_password_of_another(inside: Inside) -> None:
    port = int(inside.nats[0].url.rpartition(":")[2])
    asked = b'CONNECT {"user":"admin","pass":"a guess"}\r\nPING\r\n'
    said = await asyncio.to_thread(answer, port, inside.pair("gateway"), asked, nats=True)
    assert b"Authorization Violation" in said


async def test_a_server_that_another_authority_vouches_for_is_told_nothing(inside: Inside) -> None:
    config = inside.config("gateway", authority="stranger")
    with pytest.raises(BusUnavailable):
        await NatsBus.connect(config.nats_urls, name="x", access=nats_access(config), connect_timeout_s=0.5)
    with pytest.raises(MetadataUnavailable):
        await EtcdMetadata.connect(config.etcd_endpoints, tls=etcd_access(config).tls, timeout_s=0.5)


async def test_the_ports_between_servers_take_no_certificate_of_a_service(inside: Inside) -> None:
    peer_port = int(inside.etcd.peer_url.rpartition(":")[2])
    members = b"GET /members HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    route = b'CONNECT {"name":"x","cluster":"inside"}\r\nPING\r\n'
    for holder in (*KINDS, "root", "nats", "etcd"):
        own = inside.pair(holder)
        assert await asyncio.to_thread(answer, peer_port, own, members) == b"", holder
        assert await asyncio.to_thread(answer, inside.route_port, own, route) == b"", holder
    assert await asyncio.to_thread(answer, peer_port, inside.pair("etcd", "peer"), members)
    assert await asyncio.to_thread(answer, inside.route_port, inside.pair("nats", "peer"), route)


async def test_a_password_is_sent_by_tls_or_not_at_all(inside: Inside) -> None:
    heard = b""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1024}\r\n')
        heard += await reader.read(4096)
        writer.close()

    server = await asyncio.start_server(plain, HOST, 0)
    url = f"nats://{HOST}:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(BusUnavailable):
        await NatsBus.connect(
            url, name="x", access=nats_access(inside.config("gateway")), connect_timeout_s=0.5
        )
    server.close()
    await server.wait_closed()
    assert heard == b""


async def test_a_service_opens_both(inside: Inside) -> None:
    async with open_ports(Runtime("storage", "1"), inside.config("storage")) as ports:
        await ports.metadata.put("/storage/id", b"x")


async def run(*command: str) -> None:
    await asyncio.to_thread(lambda: subprocess.run(command, check=True, capture_output=True))


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_the_whole_platform_works_with_what_each_service_may(inside: Inside, tmp_path: Path) -> None:
    """Topics, schemas, archiving, cursors and administration; nobody is refused anything."""
    address = inside.etcd.endpoint.removeprefix("https://")
    root = inside.certificates / "root"
    await run(sys.executable, "-m", "danube_admin_service.cluster.etcd_users", address, str(root))
    services = []
    for number, kind in enumerate(("admin", "topic-owner", "storage", "gateway"), 1):
        password = tmp_path / f"{kind}.password"
        password.write_text(PASSWORDS[kind])
        cert, key = inside.pair(kind)
        flags = ["--metadata", f"etcd://{address}", "--nats-url", inside.nats[0].url]
        flags += ["--nats-user", kind, "--nats-password-file", str(password)]
        for server in ("nats", "etcd"):
            flags += [f"--{server}-ca-file", str(inside.certificates / kind / "ca.crt")]
            flags += [f"--{server}-cert-file", str(cert), f"--{server}-key-file", str(key)]
        if kind == "storage":
            flags += ["--data-dir", str(tmp_path / "segments"), "--seal-age-s", "1"]
        services.append(ServiceProcess(kind, kind, str(number), tmp_path, flags))
    try:
        await asyncio.gather(*(service.start() for service in services))
        gateway, admin = services[3], services[0]
        topic, count = "/default/orders", 200
        async with danube_client.connect(f"http://{gateway.grpc_addr}") as client:
            async with client.producer(topic, strategy=danube_client.Reliable()) as producer:
                await asyncio.gather(*(producer.send(b"%d" % number) for number in range(count)))
            async with client.consumer(topic, "jobs") as consumer:
                for _ in range(count):
                    message = await consumer.receive()
                    await message.ack()
        tool = [
            str(Path(sysconfig.get_path("scripts")) / "danube-admin"),
            "--endpoint",
            f"http://{admin.grpc_addr}",
        ]
        for words in (
            ["namespaces", "create", "shop"],
            ["topics", "create", "/shop/new"],
            ["security", "roles", "list"],
            ["topics", "delete", "/shop/new", "--yes"],
        ):
            await run(*tool, *words)
        async with asyncio.timeout(60):
            # Storage tells nobody.
            while not [one for one in (tmp_path / "segments").rglob("*") if one.is_file()]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    finally:
        for service in services:
            await service.kill()
    for service in services:
        assert service.output
        assert "permission denied" not in service.output.lower(), service.output
    for nats in inside.nats:
        assert "Violation" not in nats.output
