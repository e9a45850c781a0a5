from __future__ import annotations

import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from danube_harness.platforms.standalone import Platform

pytestmark = pytest.mark.timeout(180)

TOPIC = "/default/orders"
MESSAGES = [f"order {number}" for number in range(5)]
BIN = Path(sysconfig.get_path("scripts"))


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Not started; stopped at the end."""
    platform = Platform(tmp_path)
    yield platform
    platform.stop()


def run(tool: str, *arguments: str, sends: str = "") -> list[str]:
    """The lines that a tool printed; it must succeed."""
    done = subprocess.run([BIN / tool, *arguments], input=sends, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def produce(platform: Platform) -> None:
    run(
        *("danube-cli", "produce", "-s", f"http://{platform.gateway_addr}", "-t", TOPIC),
        *("--reliable", "--storage", "disk", "--file", "-"),
        sends="".join(f"{message}\n" for message in MESSAGES),
    )


def consume(platform: Platform, subscription: str, *arguments: str) -> list[str]:
    return run(
        *("danube-cli", "consume", "-s", f"http://{platform.gateway_addr}", "-t", TOPIC, "-m", subscription),
        *("--sub-type", "exclusive", "--raw", "--exit-at-end", *arguments),
    )


def topics(platform: Platform) -> list[str]:
    return run("danube-admin", "topics", "list", "default", "--endpoint", f"http://{platform.admin_addr}")


def test_ctrl_c_ends_everything_with_status_0_and_a_second_start_finds_it_all_again(
    platform: Platform,
) -> None:
    platform.start()
    produce(platform)
    assert consume(platform, "kitchen", "--max", "2") == MESSAGES[:2]
    before = topics(platform)
    assert any(TOPIC in line for line in before)
    rendered = (platform.data_dir / "nats" / "nats.conf").read_text()
    assert "sync_interval: always" in [line.strip() for line in rendered.splitlines()]
    # Ctrl-C; it raises if a process of the platform is left.
    assert platform.stop(signal.SIGINT) == 0

    platform.start()
    assert topics(platform) == before
    assert consume(platform, "kitchen") == MESSAGES[2:]
    assert consume(platform, "another") == MESSAGES


@pytest.mark.acceptance
def test_a_power_cut_loses_nothing_that_was_acknowledged(platform: Platform) -> None:
    platform.start()
    produce(platform)
    assert consume(platform, "kitchen", "--max", "2") == MESSAGES[:2]
    platform.kill_all()

    platform.start()
    # The last acknowledgements may not have been journaled: then they come again, and nothing is missing.
    assert consume(platform, "kitchen")[-3:] == MESSAGES[2:]
    assert consume(platform, "another") == MESSAGES
