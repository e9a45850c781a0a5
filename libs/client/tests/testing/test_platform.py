"""A platform of its own for users' tests."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from danube_client import connect
from danube_client.testing import LocalPlatform, PlatformFailed, local_platform
from danube_client.testing.platform import PROGRAM

pytestmark = pytest.mark.server
WAIT_S = 40.0


def folders(path: Path) -> list[Path]:
    return list(path.iterdir())


@pytest.mark.timeout(120)
async def test_a_platform_serves_while_its_block_runs_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with local_platform() as url, connect(url) as client:
        async with client.producer("/default/tested") as producer:
            await producer.send("one")
        assert folders(tmp_path)
    assert not folders(tmp_path)


def test_a_platform_that_is_not_installed_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformFailed, match="pip install danubepy-server"):
        LocalPlatform().start()


def test_a_platform_that_ends_at_once_is_told_with_what_it_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / PROGRAM
    program.write_text("#!/bin/sh\necho no room\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(PlatformFailed, match=r"ended with 3:\nno room"), LocalPlatform():
        pass


@pytest.mark.timeout(120)
def test_a_platform_ends_with_a_killed_test_process(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, signal
        from danube_client.testing import LocalPlatform
        platform = LocalPlatform()
        platform.start()
        print(platform._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    platform = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + WAIT_S
    while platform.exists() and platform.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the platform outlives its test"
        time.sleep(0.05)


@pytest.mark.timeout(120)
def test_the_fixtures_give_tests_a_client_of_one_platform(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "test_orders.py").write_text(
        textwrap.dedent("""
            async def test_an_order_is_kept(danube_client, danube_url):
                assert danube_url.startswith("http://127.0.0.1:")
                async with danube_client.producer("/default/orders") as producer:
                    await producer.send("tea")

            async def test_and_read(danube_client):
                async with danube_client.consumer("/default/orders", "kitchen") as consumer:
                    assert (await anext(consumer)).text == "tea"
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
