"""``danube-admin doctor``, ``top`` and ``events`` tell of a real platform what is so."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from danube_admin_cli.__main__ import app
from danube_client import Reliable, Start, Storage, connect
from danube_harness.platforms.standalone import Platform

ADMIN: Final = Path(sysconfig.get_path("scripts")) / "danube-admin"
TOPIC: Final = "/default/orders"
SENT, ACKED = 9, 4


def told(platform: Platform, *arguments: str) -> tuple[int, Any]:
    """The exit code, and what a command says as JSON."""
    endpoint = ("--endpoint", f"http://{platform.admin_addr}")
    ended = CliRunner().invoke(app, [*arguments, "-o", "json", *endpoint])
    assert ended.stdout, ended.stderr
    return ended.exit_code, json.loads(ended.stdout)


@contextmanager
def events(platform: Platform) -> Iterator[Iterator[dict[str, Any]]]:
    """What happens, as `danube-admin events` tells it."""
    command = [str(ADMIN), "events", "-o", "json", "--endpoint", f"http://{platform.admin_addr}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield (json.loads(line) for line in running.stdout)
        finally:
            running.kill()


def ends_by_itself_having_told(platform: Platform, kind: str) -> bool:
    """Give `danube-admin events` longer and longer, until it has told of this; each time it ends well."""
    command = [str(ADMIN), "events", "--endpoint", f"http://{platform.admin_addr}", "--seconds"]
    return any(
        kind in subprocess.run([*command, seconds], capture_output=True, text=True, check=True).stdout
        for seconds in ("0.5", "2", "8", "32")
    )


async def make_a_backlog(platform: Platform) -> None:
    async with (
        connect(f"http://{platform.gateway_addr}") as client,
        client.producer(TOPIC, strategy=Reliable(Storage.DISK)) as producer,
        client.consumer(TOPIC, "billing", initial_position=Start.earliest()) as consumer,
    ):
        for number in range(SENT):
            await producer.send(str(number))
        for _ in range(ACKED):
            await (await anext(consumer)).ack()


@pytest.mark.timeout(180)
def test_doctor_top_and_events_tell_of_health_of_lag_and_of_a_takeover(tmp_path: Path) -> None:
    with Platform.run(tmp_path, arguments=["--topic-owners", "2"]) as platform:
        asyncio.run(make_a_backlog(platform))
        _, health = told(platform, "doctor")
        # The machine of the tests may lack room, limits or a steady clock; the platform lacks nothing.
        checks = {finding["check"] for finding in health["findings"] if finding["severity"] != "UNSEEN"}
        assert checks <= {"disks", "limits", "clocks"}, health
        unseen = [finding["subject"] for finding in health["findings"] if finding["severity"] == "UNSEEN"]
        assert unseen == ["nats"], health

        code, screen = told(platform, "top", "--once", "--interval", "0.5")
        assert code == 0
        (row,) = (row for row in screen["rows"] if row["topic"] == TOPIC)
        assert (row["subscription"], row["type"], row["in_per_s"]) == ("billing", "shared", 0.0)
        assert SENT - ACKED <= row["backlog"] <= SENT

        assert ends_by_itself_having_told(platform, "following")

        with events(platform) as happening:
            assert next(happening)["kind"] == "following"
            # One that is killed comes back before anybody has missed it.
            paused = platform.kill("topic-owner", signal.SIGSTOP)
            missing = {"instance-left", "owner-changed", "instance-came"}
            for event in happening:
                missing.discard(event["kind"])
                if missing <= {"instance-came"}:
                    break
            os.kill(paused, signal.SIGKILL)
            while missing:
                missing.discard(next(happening)["kind"])
