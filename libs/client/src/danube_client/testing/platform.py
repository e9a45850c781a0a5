"""A whole platform of its own for a test: free ports, a temporary folder, gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Self

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.01
OUTPUT_BYTES_SHOWN: Final = 8192
PROGRAM: Final = "danube-standalone"


class PlatformFailed(RuntimeError):
    """The platform is not installed, or did not start; the text shows what it printed."""


class LocalPlatform:
    """`danube-standalone` as a child process; a context manager. Its calls block.

    It stops with this process, however that ends, and its data are deleted. Needs `danubepy-server`.

    Args:
        start_timeout_s: how long it may take to be ready; about a second on a quiet machine.
    """

    def __init__(self, *, start_timeout_s: float = START_TIMEOUT_S) -> None:
        self._start_timeout_s = start_timeout_s
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: dict[str, Any] = {}

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"http://{self._ready['gateway_addr']}"

    @property
    def admin_url(self) -> str:
        """What `danube-admin` connects to."""
        return f"http://{self._ready['admin_addr']}"

    def start(self) -> None:
        """Start it and return when it is ready; raises PlatformFailed."""
        if self._process is not None:
            raise PlatformFailed("the platform is running already")
        self._directory = tempfile.TemporaryDirectory(prefix="danube-")
        directory = Path(self._directory.name)
        ready_file, output_file = directory / "ready.json", directory / "output"
        try:
            with output_file.open("wb") as output:
                self._process = subprocess.Popen(
                    [
                        *(find_program(), "--stop-at-stdin-end", "--data-dir", directory / "data"),
                        *("--ready-file", ready_file, "--nats-port", "0"),
                        *("--gateway-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"),
                        *("--http-addr", "127.0.0.1:0"),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self._ready = self._await_ready(self._process, ready_file, output_file)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it and delete its data; nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._directory is not None:
            shutil.rmtree(self._directory.name, ignore_errors=True)
            self._directory.cleanup()
            self._directory = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def _await_ready(
        self, process: subprocess.Popen[bytes], ready_file: Path, output_file: Path
    ) -> dict[str, Any]:
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                ready: dict[str, Any] = json.loads(ready_file.read_bytes())
                return ready
            time.sleep(POLL_S)  # a file of another process has no event of its own
        with output_file.open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - OUTPUT_BYTES_SHOWN))
            printed = output.read().decode(errors="replace")
        state = "was not ready in time" if process.returncode is None else f"ended with {process.returncode}"
        raise PlatformFailed(f"{PROGRAM} {state}:\n{printed}")


def find_program() -> Path:
    """Return where `danube-standalone` is: beside this Python, else on the PATH; raises PlatformFailed."""
    beside = Path(sysconfig.get_path("scripts")) / PROGRAM
    if beside.exists():
        return beside
    found = shutil.which(PROGRAM)
    if found is None:
        raise PlatformFailed(f"{PROGRAM} is not installed: pip install danubepy-server")
    return Path(found)


@contextlib.asynccontextmanager
async def local_platform(*, start_timeout_s: float = START_TIMEOUT_S) -> AsyncIterator[str]:
    """Run a platform while the block runs and give its URL; raises PlatformFailed.

    Example::

        async with local_platform() as url, connect(url) as client:
            ...
    """
    platform = LocalPlatform(start_timeout_s=start_timeout_s)
    await asyncio.to_thread(platform.start)
    try:
        yield platform.url
    finally:
        await asyncio.to_thread(platform.stop)
