"""`danube-perf` against the platform: what it says was sent, received and lost is what happened."""

from __future__ import annotations

import asyncio
import json
import sysconfig
from pathlib import Path
from typing import Any

from tests.conformance.client import Admin

from danube_harness.platforms.standalone import Platform

QUICK = ("--warmup", "0", "-o", "json", "--no-progress")
PATIENT = ("--drain", "30")
"""A run ends when everything has come; a machine that stands still for 3 s, the default, loses nothing."""


async def perf(command: str, platform: Platform, *arguments: str) -> Any:
    program = Path(sysconfig.get_path("scripts")) / "danube-perf"
    process = await asyncio.create_subprocess_exec(
        str(program),
        *(command, "-s", platform.gateway_addr, *arguments, *QUICK),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def test_what_is_sent_to_a_disk_topic_arrives_once_at_each_subscription(
    platform: Platform, admin: Admin, topic: str
) -> None:
    found = await perf(
        *("e2e", platform, "-t", topic, "--storage", "disk", "--size", "4k", "-n", "200"),
        *("--producers", "2", "--in-flight", "16", "--subscriptions", "2", "--processes", "2", *PATIENT),
    )
    assert found["publish"]["messages"] == 200
    assert found["publish"]["latency_us"]["count"] == 200
    assert found["consume"]["messages"] >= 400
    sent = found["integrity"]["sent"]
    assert {name: found["integrity"][name] for name in ("lost", "reordered")} == {"lost": 0, "reordered": 0}
    assert found["integrity"]["received"] - found["integrity"]["duplicated"] == 2 * sent
    assert sorted(await admin.subscriptions(topic)) == ["perf-0", "perf-1"]


async def test_native_streaming_is_measured_with_the_same_accounts(platform: Platform, topic: str) -> None:
    found = await perf(
        *("e2e", platform, "-t", topic, "--storage", "disk", "--streaming", "-n", "3000"),
        *("--producers", "2", "--in-flight", "500", "--consumers", "2", *PATIENT),
    )
    assert found["publish"]["messages"] == 3000
    assert found["consume"]["messages"] >= 3000
    assert found["consume"]["ack_us"]["count"] >= 3000
    integrity = found["integrity"]
    assert (integrity["lost"], integrity["received"] - integrity["duplicated"]) == (0, integrity["sent"])


async def test_a_backlog_is_consumed_and_acknowledged(platform: Platform, topic: str) -> None:
    await perf("e2e", platform, "-t", topic, "--storage", "disk", "-n", "1", *PATIENT)
    await perf("produce", platform, "-t", topic, "--storage", "disk", "-n", "300", "--in-flight", "64")
    found = await perf("consume", platform, "-t", topic, "-n", "300", "--duration", "20")
    assert found["consume"]["messages"] == 300
    assert found["consume"]["ack_us"]["count"] == 300
    assert found["consume"]["failed_acks"] == {}
    assert found["integrity"]["lost"] == 0
