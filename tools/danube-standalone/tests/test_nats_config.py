from __future__ import annotations

import asyncio
import sysconfig
from pathlib import Path

import pytest

from danube_standalone.nats_config import (
    MAX_PAYLOAD_BYTES,
    MAX_PENDING_BYTES,
    ClusterMember,
    render_nats_config,
)

NATS_SERVER = Path(sysconfig.get_path("scripts")) / "nats-server"


def active_directives(text: str) -> list[str]:
    """The lines the server obeys: whatever follows a comment sign is gone."""
    stripped = (line.split("#")[0].split("//")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line]


def jetstream_directives(text: str) -> list[str]:
    lines = active_directives(text)
    start = lines.index("jetstream {")
    return lines[start + 1 : lines.index("}", start)]


async def server_accepts(path: Path) -> tuple[bool, str]:
    process = await asyncio.create_subprocess_exec(
        NATS_SERVER,
        "-t",
        "-c",
        path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode == 0, output.decode()


MEMBER = ClusterMember("danube", 6222, ["127.0.0.1:6222", "127.0.0.1:6223", "127.0.0.1:6224"])


@pytest.mark.parametrize(
    "options",
    [{}, {"port": 0, "server_name": "x", "file_store_bytes_max": 1}, {"cluster": MEMBER}],
    ids=["default", "chosen", "cluster"],
)
def test_every_rendered_configuration_syncs_each_write(options: dict[str, object]) -> None:
    text = render_nats_config(store_dir=Path("/data/nats"), **options)  # type: ignore[arg-type]
    directives = [line for line in active_directives(text) if line.startswith("sync_interval")]
    assert directives == ["sync_interval: always"]
    assert "sync_interval: always" in jetstream_directives(text)


def test_the_largest_message_fits_the_pending_bound() -> None:
    lines = active_directives(render_nats_config(store_dir=Path("/data/nats")))
    assert f"max_payload: {MAX_PAYLOAD_BYTES}" in lines
    assert f"max_pending: {MAX_PENDING_BYTES}" in lines
    assert MAX_PAYLOAD_BYTES == 33_554_432
    assert MAX_PENDING_BYTES >= 2 * MAX_PAYLOAD_BYTES


def test_the_store_bounds_are_those_asked_for() -> None:
    text = render_nats_config(store_dir=Path("/d"), file_store_bytes_max=123, memory_store_bytes_max=45)
    assert "max_file_store: 123" in jetstream_directives(text)
    assert "max_memory_store: 45" in jetstream_directives(text)


def test_a_client_that_does_not_answer_is_dropped_within_ten_seconds() -> None:
    directives = dict(
        line.split(": ", 1)
        for line in active_directives(render_nats_config(store_dir=Path("/d")))
        if ": " in line
    )
    interval_s = int(directives["ping_interval"].strip('"').removesuffix("s"))
    assert interval_s * (int(directives["ping_max"]) + 1) < 10


@pytest.mark.parametrize("name", ["plain", "with space", 'with "quotes"', "with\\backslash", "with#hash"])
async def test_the_server_accepts_the_configuration_whatever_the_path(tmp_path: Path, name: str) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(render_nats_config(store_dir=tmp_path / name, port=4222))
    accepted, output = await server_accepts(config)
    assert accepted, output


async def test_the_server_would_refuse_a_directive_it_does_not_know(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(render_nats_config(store_dir=tmp_path).replace("sync_interval", "sync_intervall"))
    accepted, _ = await server_accepts(config)
    assert not accepted


@pytest.mark.parametrize("advertise", [True, False])
async def test_the_server_accepts_the_configuration_of_a_cluster(tmp_path: Path, advertise: bool) -> None:
    member = ClusterMember(MEMBER.name, MEMBER.port, MEMBER.routes, advertise=advertise)
    config = tmp_path / "nats.conf"
    config.write_text(render_nats_config(store_dir=tmp_path / "store", server_name="a", cluster=member))
    accepted, output = await server_accepts(config)
    assert accepted, output
