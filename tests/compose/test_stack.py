"""The stack from its build to its end, from outside and under load. Needs a container engine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sysconfig
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container
from tests.compose.load import DISK, OBJECTS, load, topics
from tests.compose.stack import OFFICIAL, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

CLI = Path(sysconfig.get_path("scripts")) / "danube-cli"
ADMIN = Path(sysconfig.get_path("scripts")) / "danube-admin"
OWN = (*OFFICIAL, "admin")
LAYERS_BYTES_MAX = 120 * 1024 * 1024
"""What an image may hold on top of its Python base image."""
WARM_UP_S = 2.0
SETTLE_S = 3.0
OUTAGE_S = 15.0
"""More than three leases: what was killed or cut off is replaced meanwhile."""
SCRAPE_S_MAX = 60.0
ARCHIVE_S_MAX = 90.0
UNTIL_QUIET = ("--exit-at-end", "--quiet-time", "20")
"""For a platform that has just come up on a busy machine: its first message may take seconds."""
LINES = 4000
LINE_BYTES = 1000


def cli(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [CLI, arguments[0], "-s", stack.gateway_url, *arguments[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def admin(stack: Stack, *arguments: str) -> str:
    environment = {**os.environ, "DANUBE_ADMIN_ENDPOINT": stack.admin_url}
    done = subprocess.run(
        [ADMIN, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a URL of this test's own
        return json.load(answer)


def storage_ids(stack: Stack) -> list[str]:
    """Who the storage instances are, in any order."""
    command = ["sh", "-c", "tr '\\0' '\\n' </proc/1/environ | grep _INSTANCE_ID="]
    told = (container.exec_run(command).output for container in stack.containers("storage"))
    return sorted(output.decode() for output in told if isinstance(output, bytes))


def test_images_are_small_without_root_and_without_secrets(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    base = stack.config()["services"]["gateway"]["build"]["args"]["PYTHON_IMAGE"]
    below = stack.client.images.get(base)
    for service in OWN:
        image = stack.client.images.get(f"danube-{service}:{stack.project}")
        added = image.attrs["Size"] - below.attrs["Size"]
        with capsys.disabled():
            print(
                f"\ndanube-{service}: {added / 1e6:.0f} MB over {base} of {below.attrs['Size'] / 1e6:.0f} MB",
                end="",
            )
        assert added < LAYERS_BYTES_MAX
        assert image.attrs["Config"]["User"] == "10001:10001"
        assert image.attrs["Config"]["Healthcheck"]
        told = json.dumps([image.attrs["Config"], image.history()])
        assert not [secret for secret in stack.secrets if secret in told]


def test_no_container_runs_as_root_or_is_reached_from_elsewhere(stack: Stack) -> None:
    for service in (*OWN, "balancer", "nats", "etcd", "s3", "prometheus"):
        for container in stack.containers(service):
            assert container.attrs["Config"]["User"] == "10001:10001"
            assert container.attrs["HostConfig"]["ReadonlyRootfs"]
            assert container.attrs["HostConfig"]["CapDrop"] == ["ALL"]
            published = [place for places in container.ports.values() for place in places or ()]
            assert all(place["HostIp"] == "127.0.0.1" for place in published)


def test_the_command_line_tools_reach_the_stack_from_outside(stack: Stack) -> None:
    topic = "/default/outside"
    sent = cli(stack, "produce", "-t", topic, "--reliable", "--storage", "disk", "-c", "20", "-m", "hello")
    assert sent.count("Message sent successfully") == 20
    subscriptions = ("one", "two", "three")
    # What all subscriptions have acknowledged is deleted: each is there before one has taken all.
    for subscription in subscriptions:
        cli(stack, "subscribe", "-t", topic, "-m", subscription)
    # Each of these is another connection, so the balancer sends it to another gateway.
    for subscription in subscriptions:
        got = cli(stack, "consume", "-t", topic, "-m", subscription, "--max", "20")
        assert got.count("payload: hello") == 20
    assert topic in admin(stack, "topics", "list", "default")
    assert admin(stack, "topics", "subscriptions", topic).count('"') == 6
    listed = admin(stack, "brokers", "list")
    assert listed.count("| topic-owner ") == OFFICIAL["topic-owner"], listed


def test_prometheus_scrapes_every_instance_of_every_service(stack: Stack) -> None:
    expected = Counter({"danube": sum(OFFICIAL.values()) + 1, "etcd": 1, "balancer": 1})
    deadline = time.monotonic() + SCRAPE_S_MAX
    while True:
        targets = fetched(f"{stack.prometheus_url}/api/v1/targets")["data"]["activeTargets"]
        up = Counter(one["labels"]["job"] for one in targets if one["health"] == "up")
        if up == expected:
            return
        assert time.monotonic() < deadline, targets
        time.sleep(1)  # the next scrape has no event


def test_data_is_there_after_down_and_up(stack: Stack) -> None:
    topic = "/default/kept"
    cli(stack, "produce", "-t", topic, "--reliable", "--storage", "disk", "-c", "50", "-m", "before")
    # What all subscriptions have acknowledged is deleted: both are there before one has taken all.
    assert cli(stack, "consume", "-t", topic, "-m", "tenth", "--max", "5").count("before") == 5
    assert cli(stack, "consume", "-t", topic, "-m", "half", "--max", "25").count("before") == 25
    admin(stack, "namespaces", "create", "kept")
    instances = storage_ids(stack)
    assert len(set(instances)) == OFFICIAL["storage"]

    stack.down()
    assert stack.containers("nats", running=False) == []
    stack.up()

    assert cli(stack, "consume", "-t", topic, "-m", "half", *UNTIL_QUIET).count("before") == 25
    assert cli(stack, "consume", "-t", topic, "-m", "tenth", *UNTIL_QUIET).count("before") == 45
    assert "kept" in admin(stack, "brokers", "namespaces")
    assert storage_ids(stack) == instances


def segments_of(stack: Stack, topic: str) -> list[dict[str, Any]]:
    """What is archived of a topic."""
    found: list[dict[str, Any]] = json.loads(admin(stack, "topics", "segments", topic, "-o", "json"))
    return found


def test_what_is_archived_in_s3_needs_no_disk_of_a_storage_instance(stack: Stack, tmp_path: Path) -> None:
    topic = "/default/archived"
    sent = [f"{number} {number * 7919 % 1000:03}" + "." * LINE_BYTES for number in range(LINES)]
    (tmp_path / "lines").write_text("".join(f"{line}\n" for line in sent))
    flags = ("-t", topic, "--reliable", "--storage", "s3")
    cli(stack, "produce", *flags, "--file", str(tmp_path / "lines"))
    deadline = time.monotonic() + ARCHIVE_S_MAX
    while not (archived := segments_of(stack, topic)):
        assert time.monotonic() < deadline, stack.logs()
        time.sleep(1)  # the archiver tells nobody
    assert {segment["storage"] for segment in archived} == {"s3"}

    stack.down()
    stack.client.volumes.get(f"{stack.project}_storage").remove()
    stack.up()

    got = cli(stack, "consume", "-t", topic, "-m", "all", "--raw", "--max", str(LINES))
    assert got.splitlines() == sent


async def test_nothing_is_lost_while_every_service_is_scaled_up_and_down(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: tuple[dict[str, int], ...] = (
        {"gateway": 4},
        {"topic_owner": 5},
        {"storage": 4, "admin": 2},
        {"topic_owner": 1},
        {"gateway": 1, "topic_owner": 1},
        {"gateway": 3, "topic_owner": 2, "storage": 1},
        {},
    )
    # In S3: what is on the disk of a storage instance alone waits until that instance is there again.
    async with load(stack.gateway_url, topics("scaled", OBJECTS)) as under:
        await asyncio.sleep(WARM_UP_S)
        for scale in steps:
            under.mark(f"scale {' '.join(f'{name}={count}' for name, count in scale.items()) or 'back'}")
            await asyncio.to_thread(stack.up, **scale)
            await asyncio.sleep(SETTLE_S)
    with capsys.disabled():
        print(f"\nscaled under load\n{under.text()}")
    assert under.problems == []


Fault = Callable[[Stack, Container], Awaitable[None]]


async def kill(_stack: Stack, container: Container) -> None:
    """SIGKILL, and of a service that has others beside it: started again when those have taken over."""
    await asyncio.to_thread(container.kill)
    await asyncio.sleep(OUTAGE_S if container.labels["com.docker.compose.service"] in OWN else 0)
    await asyncio.to_thread(container.start)


async def cut(stack: Stack, container: Container) -> None:
    """Without a network for longer than a lease."""
    with stack.cut_off(container):
        await asyncio.sleep(OUTAGE_S)


async def freeze(_stack: Stack, container: Container) -> None:
    """Its process does nothing for longer than a lease, and knows nothing of it."""
    # Signals, as the engine's own pause is not to be had under load everywhere.
    await asyncio.to_thread(container.kill, "SIGSTOP")
    try:
        await asyncio.sleep(OUTAGE_S)
    finally:
        await asyncio.to_thread(container.kill, "SIGCONT")


FAULTS: tuple[tuple[Fault, str, int], ...] = (
    *((kill, service, 0) for service in ("gateway", "topic-owner", "storage", "admin", "nats", "etcd", "s3")),
    # Whoever was with the gateway that was hurt is at the other one now.
    (cut, "gateway", 1),
    # No bundle changes hands then: those that nobody owns yet wait for etcd.
    (cut, "etcd", 0),
    (cut, "topic-owner", 1),
    (freeze, "gateway", 0),
    (freeze, "topic-owner", 2),
)


async def test_nothing_is_lost_though_containers_are_killed_cut_off_and_frozen(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    async with load(stack.gateway_url, topics("hurt", DISK, OBJECTS)) as under:
        await asyncio.sleep(WARM_UP_S)
        for fault, service, place in FAULTS:
            under.mark(f"{fault.__name__} {service}")
            container = stack.containers(service)[place]
            await fault(stack, container)
            await asyncio.to_thread(stack.until_healthy, container)
            await asyncio.sleep(SETTLE_S)
    with capsys.disabled():
        print(f"\nhurt under load\n{under.text()}")
    assert under.problems == []
    # Each has others beside it, or is not on a message's way: nobody waited until it was back.
    waited = {
        what: max(silence.publish_s, silence.delivery_s)
        for what, silence in under.silences
        if what != "kill nats"
    }
    assert {what: silence_s for what, silence_s in waited.items() if silence_s > OUTAGE_S} == {}
