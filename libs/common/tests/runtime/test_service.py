from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from danube_harness.process_death import die_with_parent

SERVICE = Path(__file__).with_name("sample_service.py")
WAIT_S = 40.0

pytestmark = pytest.mark.server


class Sample:
    """A running sample service, its files, and what it wrote."""

    def __init__(self, process: Process, directory: Path) -> None:
        self.process = process
        self.ready_file = directory / "ready.json"
        self._trace = directory / "trace"
        self.logs: list[dict[str, Any]] = []

    async def until(self, event: str) -> dict[str, Any]:
        """The next log line of this event."""
        assert self.process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            while line := await self.process.stderr.readline():
                if line.startswith(b"{"):
                    self.logs.append(json.loads(line))
                    if self.logs[-1]["event"] == event:
                        return self.logs[-1]
        raise AssertionError(f"ended without {event}: {self.logs}")

    async def status(self) -> int:
        assert self.process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            rest = await self.process.stderr.read()
            self.logs += [json.loads(line) for line in rest.splitlines() if line.startswith(b"{")]
            return await self.process.wait()

    @property
    def events(self) -> list[str]:
        return [str(log["event"]) for log in self.logs]

    @property
    def trace(self) -> list[str]:
        return self._trace.read_text().splitlines()


Launch = Callable[..., Awaitable[Sample]]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    processes: list[Process] = []

    async def begin(mode: str, *flags: str) -> Sample:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            SERVICE,
            *("--mode", mode, "--trace", tmp_path / "trace", "--ready-file", tmp_path / "ready.json"),
            *flags,
            stderr=PIPE,
            preexec_fn=die_with_parent,
        )
        processes.append(process)
        return Sample(process, tmp_path)

    yield begin
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_a_ready_service_tells_its_addresses_and_answers_health_and_metrics(launch: Launch) -> None:
    sample = await launch("", "--instance-id", "42")
    ready = await sample.until("ready")
    told = json.loads(sample.ready_file.read_text())
    assert told == {
        "service": "sample",
        "instance_id": "42",
        "pid": sample.process.pid,
        "http_url": ready["http_url"],
        "grpc_addr": "127.0.0.1:1234",
    }
    assert ready["grpc_addr"] == "127.0.0.1:1234"
    assert ready["instance"] == "42"
    assert (await get(f"{told['http_url']}/livez"))[0] == 200
    status, text = await get(f"{told['http_url']}/readyz")
    assert (status, json.loads(text)) == (
        200,
        {
            "ready": True,
            "checks": {
                "service": {"ok": True, "vital": True, "problem": None},
                "sample": {"ok": True, "vital": True, "problem": None},
            },
        },
    )
    status, text = await get(f"{told['http_url']}/metrics")
    assert status == 200
    assert 'danube_instance{instance="42",service="sample"} 1.0' in text


async def test_a_failing_check_makes_the_service_not_ready_and_says_which(launch: Launch) -> None:
    sample = await launch("unwell")
    ready = await sample.until("ready")
    status, text = await get(f"{ready['http_url']}/readyz")
    assert status == 503
    assert json.loads(text)["checks"]["sample"] == {"ok": False, "vital": True, "problem": "unwell"}
    assert (await get(f"{ready['http_url']}/livez"))[0] == 200


async def test_a_failing_check_that_is_not_vital_is_told_of_only(launch: Launch) -> None:
    sample = await launch("a-bit-unwell")
    ready = await sample.until("ready")
    status, text = await get(f"{ready['http_url']}/readyz")
    assert status == 200
    assert json.loads(text)["checks"]["sample"] == {"ok": False, "vital": False, "problem": "unwell"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_service_gracefully(launch: Launch, number: signal.Signals) -> None:
    sample = await launch("")
    await sample.until("ready")
    sample.process.send_signal(number)
    assert await sample.status() == 0
    assert sample.trace == ["entering", "leaving", "left", "task ended"]
    assert sample.events[-3:] == ["signal", "stopping", "stopped"]
    assert not sample.ready_file.exists()


async def test_a_signal_before_ready_cancels_the_start(launch: Launch) -> None:
    sample = await launch("never-ready")
    await sample.until("entering")
    sample.process.terminate()
    assert await sample.status() == 0
    assert sample.trace == ["entering", "leaving", "left"]
    assert not sample.ready_file.exists()


async def test_while_stopping_the_service_is_alive_but_not_ready(launch: Launch) -> None:
    sample = await launch("slow-stop", "--shutdown-deadline-s", "30")
    ready = await sample.until("ready")
    sample.process.terminate()
    await sample.until("stopping")
    status, text = await get(f"{ready['http_url']}/readyz")
    assert status == 503
    assert json.loads(text)["checks"]["service"]["problem"] == "stopping"
    assert (await get(f"{ready['http_url']}/livez"))[0] == 200


async def test_a_second_signal_ends_the_service_at_once(launch: Launch) -> None:
    sample = await launch("slow-stop", "--shutdown-deadline-s", "30")
    await sample.until("ready")
    sample.process.terminate()
    await sample.until("stopping")
    sample.process.send_signal(signal.SIGINT)
    assert await sample.status() == 128 + signal.SIGINT
    assert sample.trace == ["entering", "leaving"]


async def test_a_shutdown_over_its_deadline_is_cut_short(launch: Launch) -> None:
    sample = await launch("slow-stop", "--shutdown-deadline-s", "0.2")
    await sample.until("ready")
    sample.process.terminate()
    assert await sample.status() == 3
    assert "shutdown_deadline_passed" in sample.events
    assert "task ended" in sample.trace


async def test_a_stuck_thread_does_not_keep_the_process(launch: Launch) -> None:
    sample = await launch("stuck-thread", "--shutdown-deadline-s", "0.1")
    await sample.until("ready")
    sample.process.terminate()
    assert await sample.status() == 1
    assert "stopped" in sample.events


async def test_a_failing_background_task_ends_the_service_with_1(launch: Launch) -> None:
    sample = await launch("failing-task")
    assert await sample.status() == 1
    failed = next(log for log in sample.logs if log["event"] == "task_failed")
    assert failed["task"] == "failing"
    assert "background trouble" in failed["exception"]
    assert "left" in sample.trace


async def test_a_task_that_fails_while_stopping_does_not_change_the_status(launch: Launch) -> None:
    sample = await launch("late-failure")
    await sample.until("ready")
    sample.process.terminate()
    assert await sample.status() == 0
    assert "task_failed_while_stopping" in sample.events


async def test_a_task_nobody_owns_is_named_and_ended(launch: Launch) -> None:
    sample = await launch("stray")
    await sample.until("ready")
    sample.process.terminate()
    assert await sample.status() == 0
    assert next(log for log in sample.logs if log["event"] == "tasks_left")["tasks"] == ["stray"]


@pytest.mark.parametrize(
    ("mode", "said", "trace"), [("refuse", "no server", False), ("crash", "a fault", True)]
)
async def test_a_start_that_fails_ends_with_1_and_says_why(
    launch: Launch, mode: str, said: str, trace: bool
) -> None:
    sample = await launch(mode)
    assert await sample.status() == 1
    failed = next(log for log in sample.logs if log["event"] == "failed")
    assert said in failed["error"]
    assert ("exception" in failed) is trace
    assert not sample.ready_file.exists()


async def test_a_taken_http_port_is_a_clear_error(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        sample = await launch("", "--http-addr", addr)
        assert await sample.status() == 1
    failed = next(log for log in sample.logs if log["event"] == "failed")
    assert f"cannot listen on {addr}: Address already in use" in failed["error"]


async def test_a_wrong_configuration_ends_with_2_and_one_line(launch: Launch) -> None:
    sample = await launch("", "--log-level", "loud")
    assert sample.process.stderr is not None
    told = (await sample.process.stderr.read()).decode()
    assert told.startswith("danube-sample: log_level in --log-level: must be debug, info, ")
    assert told.endswith(", not 'loud'\n")
    assert told.count("\n") == 1
    assert await sample.status() == 2
