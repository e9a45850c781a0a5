from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from danube_harness.platforms.standalone import PROCESS_NAMES, Platform, is_alive

NAMES = sorted(set(PROCESS_NAMES.values()))
RESTART_TIMEOUT_S = 20.0


def test_processes_are_known_by_name_can_be_killed_and_none_outlives_the_platform(tmp_path: Path) -> None:
    with Platform.run(tmp_path / "platform") as platform:
        before = {name: platform.pids(name) for name in NAMES}
        assert all(len(pids) == 1 for pids in before.values()), before
        killed = platform.kill("gateway")
        assert [killed] == before["gateway"]
        assert not is_alive(killed)
        deadline = time.monotonic() + RESTART_TIMEOUT_S
        while not platform.pids("gateway"):
            assert time.monotonic() < deadline, "the launcher did not start it again"
            time.sleep(0.05)
        platform.kill("storage", signal.SIGSTOP)
        platform.kill("storage", signal.SIGCONT)
        assert platform.pids("storage") == before["storage"]
        started = [platform.pid, *(pid for name in NAMES for pid in platform.pids(name))]
    assert not [pid for pid in started if is_alive(pid)]


def test_a_platform_that_lost_its_power_starts_again_on_its_data(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "platform")
    platform.start()
    try:
        started = [platform.pid, *(pid for name in NAMES for pid in platform.pids(name))]
        platform.kill_all()
        assert not [pid for pid in started if is_alive(pid)]
        platform.start()
        assert platform.gateway_addrs[0] == platform.gateway_addr
    finally:
        platform.stop()


def test_a_platform_that_cannot_start_says_why(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "platform", arguments=("--gateways", "none"))
    with pytest.raises(RuntimeError, match="gateways"):
        platform.start()
