"""The steps of docs/operations/backup.md bring back what was there."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path
from typing import Final

import pytest
from tests.docs.test_examples import BASH, PROMPT, ROOT

from danube_client import Reliable, Retention, Start, Storage, connect
from danube_harness.platforms.admin_calls import ask_admin, until_described
from danube_harness.platforms.standalone import Platform
from danube_proto import danube_admin_pb2 as wire

PAGE: Final = ROOT / "docs" / "operations" / "backup.md"
SETTINGS: Final = {"DANUBE_STORAGE_SEAL_AGE_S": "1"}
TOPIC: Final = "/depot/orders"
KEPT: Final = Reliable(Storage.DISK, retention=Retention.UNTIL_EXPIRED, retention_period_s=3600)
BEFORE, SINCE = range(20), range(20, 25)
READ: Final = 5
"""How many messages are acknowledged when the copy is made."""


def commands(heading: str, end: str) -> list[str]:
    """The commands between two lines of the page."""
    text = PAGE.read_text().partition(heading)[2].partition(end)[0]
    lines = textwrap.dedent(text).splitlines()
    return [line.strip().removeprefix(PROMPT) for line in lines if line.strip().startswith(PROMPT)]


def run(shown: list[str], directory: Path) -> None:
    assert shown
    for command in shown:
        subprocess.run([BASH, "-c", command], cwd=directory, check=True)


async def publish(platform: Platform, numbers: range) -> None:
    async with (
        connect(f"http://{platform.gateway_addr}") as client,
        client.producer(TOPIC, name="w", strategy=KEPT) as producer,
    ):
        for number in numbers:
            await producer.send(str(number))


async def read(platform: Platform, count: int, start: Start | None = None) -> list[int]:
    """Read and acknowledge so many messages."""
    async with (
        connect(f"http://{platform.gateway_addr}") as client,
        client.consumer(TOPIC, "billing", name="r", initial_position=start) as consumer,
    ):
        taken = []
        for _ in range(count):
            message = await anext(consumer)
            taken.append(int(message.payload))
            await message.ack()
    return taken


@pytest.mark.timeout(180)
async def test_a_restored_copy_has_the_messages_the_cursors_and_the_topics_of_its_time(
    tmp_path: Path,
) -> None:
    back_up, restore = commands("Back up:", "Restore:"), commands("Restore:", "Then everything is as it was")
    with Platform.run(tmp_path, environment=SETTINGS) as platform:
        create = "/danube_admin.NamespaceAdmin/CreateNamespace"
        request = wire.NamespaceRequest(name="depot")
        await ask_admin([platform.admin_addr], create, request, wire.NamespaceResponse)
        await publish(platform, BEFORE[:10])
        await until_described([platform.admin_addr], TOPIC, lambda told: told.archived_through > 0)
        await publish(platform, BEFORE[10:])
        assert await read(platform, READ, Start.earliest()) == list(BEFORE[:READ])

        platform.stop()
        run(back_up, tmp_path)
        platform.start()
        await publish(platform, SINCE)
        assert await read(platform, READ) == list(BEFORE[READ : 2 * READ])

        platform.stop()
        run(restore, tmp_path)
        platform.start()
        assert await read(platform, len(BEFORE) - READ) == list(BEFORE[READ:])
        await publish(platform, range(100, 101))
        assert await read(platform, 1) == [100]

    # The copy also starts elsewhere.
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "data.backup").rename(moved / "data")
    with Platform.run(moved, environment=SETTINGS) as platform:
        assert await read(platform, len(BEFORE) - READ) == list(BEFORE[READ:])
