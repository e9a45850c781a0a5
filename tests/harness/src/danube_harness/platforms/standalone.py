"""The whole platform on free ports, started by its launcher, for tests of what users get."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from danube_harness.process_death import die_with_parent

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
POLL_INTERVAL_S = 0.02
OUTPUT_BYTES_SHOWN = 20_000

PROCESS_NAMES: Mapping[str, str] = {
    "danube_gateway": "gateway",
    "danube-gateway": "gateway",
    "danube_topic_owner": "topic-owner",
    "danube-topic-owner": "topic-owner",
    "danube_storage": "storage",
    "danube-storage": "storage",
    "danube_admin_service": "admin",
    "danube-admin-service": "admin",
    "nats-server": "nats",
}
"""What stands in a child's command line, and what tests call it."""


class Platform:
    """One ``danube-standalone`` and its children. Its calls block: they are made of processes and files.

    `start` must be called from a thread that lives as long as the platform: the kernel ends the launcher
    with the thread that started it.

    Args:
        directory: gets the data, the ready file and the launcher's output.
        arguments: further command-line arguments of the launcher.
        environment: variables set on top of the test process's own.
        scripts: where its programs are; those of this environment if absent.
    """

    def __init__(
        self,
        directory: Path,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        scripts: Path | None = None,
    ) -> None:
        self.directory = directory
        self._scripts = scripts or Path(sysconfig.get_path("scripts"))
        self.data_dir = directory / "data"
        self._ready_file = directory / "ready.json"
        self._output_file = directory / "platform.log"
        self._arguments = tuple(arguments)
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: Mapping[str, Any] = {}

    @classmethod
    @contextlib.contextmanager
    def run(cls, directory: Path, **options: Any) -> Iterator[Self]:
        """Start in ``directory``, stop at the end."""
        platform = cls(directory, **options)
        platform.start()
        try:
            yield platform
        finally:
            platform.stop()

    @property
    def gateway_addr(self) -> str:
        """``host:port`` of the client port."""
        return str(self._ready["gateway_addr"])

    @property
    def gateway_addrs(self) -> list[str]:
        """The client port of each gateway, the first one's first; they may share one."""
        addresses: Mapping[str, Mapping[str, str]] = self._ready["addresses"]
        names = [name for name in addresses if name.partition("-")[0] == "gateway"]
        return [addresses[name]["grpc_addr"] for name in sorted(names, key=_instance_number)]

    def http_urls(self, kind: str) -> list[str]:
        """Health and metrics of all instances of a service, the first one's first; a restart keeps them."""
        addresses: Mapping[str, Mapping[str, str]] = self._ready["addresses"]
        names = [name for name in addresses if name.rstrip("-0123456789") == kind]
        return [addresses[name]["http_url"] for name in sorted(names, key=_instance_number)]

    @property
    def admin_addr(self) -> str:
        """``host:port`` of the administration port."""
        return str(self._ready["admin_addr"])

    @property
    def nats_url(self) -> str:
        """Where its NATS server listens, with the credentials of an operator."""
        password = (self.data_dir / "nats" / "operator.password").read_text()
        return str(self._ready["nats_url"]).replace("://", f"://operator:{password}@")

    @property
    def pid(self) -> int:
        """The launcher's process id."""
        return self._running().pid

    @property
    def output(self) -> str:
        """The last that the launcher and its children wrote."""
        if not self._output_file.exists():
            return ""
        with self._output_file.open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - OUTPUT_BYTES_SHOWN))
            return output.read().decode(errors="replace")

    def start(self) -> None:
        """Start, or start again on the same data after `stop` or `kill_all`; returns when it is ready.

        Raises:
            RuntimeError: it ended, or was not ready in time; the text shows its output.
        """
        assert self._process is None, "the platform is already running"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        launcher = self._scripts / "danube-standalone"
        with self._output_file.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    launcher,
                    *("--data-dir", self.data_dir),
                    *("--gateway-addr", "127.0.0.1:0"),
                    *("--admin-addr", "127.0.0.1:0"),
                    *("--http-addr", "127.0.0.1:0"),
                    *("--nats-port", "0"),
                    *("--ready-file", self._ready_file),
                    *self._arguments,
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - only plain calls, see there
            )
        try:
            self._ready = self._await_ready(self._process)
        except BaseException:
            self.kill_all()
            raise

    def stop(self, signal_number: signal.Signals = signal.SIGTERM) -> int:
        """End it as a user does, by a signal to the launcher. Idempotent.

        Returns:
            The launcher's exit status; 0 if it did not run.

        Raises:
            RuntimeError: it did not end in time and was killed, or left processes behind.
        """
        if self._process is None:
            return 0
        process, children = self._process, self._descendants()
        process.send_signal(signal_number)
        try:
            status = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise RuntimeError(f"the platform did not stop in time:\n{self.output}") from None
        self._process = None
        violations = [line for line in self._nats_log() if "Violation" in line]
        if violations:
            raise RuntimeError(f"NATS refused a service a subject: {violations[:5]}")
        left = [pid for pid in children if is_alive(pid)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if left:
            raise RuntimeError(f"the launcher left {len(left)} children behind:\n{self.output}")
        return status

    def kill_all(self) -> None:
        """SIGKILL for the launcher and every child at once, as a power cut would end them."""
        process = self._running()
        children = self._descendants()
        for pid in (process.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT_S)
        for pid in children:
            _await_death(pid)
        self._process = None

    def pids(self, name: str) -> list[int]:
        """The processes called ``name`` (a value of `PROCESS_NAMES`) that run now, oldest first."""
        assert name in PROCESS_NAMES.values(), f"no process is called {name}"
        return sorted(pid for pid in self._descendants() if _name_of(pid) == name)

    def kill(self, name: str, signal_number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the oldest process called ``name``.

        Returns:
            Its process id; after SIGKILL it is gone.
        """
        running = self.pids(name)
        assert running, f"no {name} is running"
        os.kill(running[0], signal_number)
        if signal_number is signal.SIGKILL:
            _await_death(running[0])
        return running[0]

    def _nats_log(self) -> list[str]:
        log = self.data_dir / "logs" / "nats.log"
        return log.read_text(errors="replace").splitlines() if log.exists() else []

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the platform is not running"
        return self._process

    def _await_ready(self, process: subprocess.Popen[bytes]) -> Mapping[str, Any]:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"the platform ended with {process.returncode}:\n{self.output}")
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                ready: Mapping[str, Any] = json.loads(self._ready_file.read_bytes())
                return ready
            time.sleep(POLL_INTERVAL_S)  # a file of another process has no event of its own
        raise RuntimeError(f"the platform was not ready within {START_TIMEOUT_S} s:\n{self.output}")

    def _descendants(self) -> list[int]:
        found: list[int] = []
        waiting = [self._running().pid]
        while waiting:
            for pid in _children(waiting.pop()):
                found.append(pid)
                waiting.append(pid)
        return found


def _instance_number(name: str) -> int:
    """2 of ``gateway-2``; the first has no number."""
    number = name.rpartition("-")[2]
    return int(number) if number.isdigit() else 1


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.extend(int(child) for child in listing.read_text().split())
    return found


def _name_of(pid: int) -> str | None:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    for argument in arguments[:4]:
        for mark, name in PROCESS_NAMES.items():
            if argument.rpartition("/")[2].startswith(mark):
                return name
    return None


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _await_death(pid: int) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_alive(pid):
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} did not die")
        time.sleep(POLL_INTERVAL_S)
