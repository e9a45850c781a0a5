from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from danube_standalone.program import Addresses, Program
from danube_standalone.restarts import RestartPolicy
from danube_standalone.supervisor import StartFailed, Supervisor

WAIT_S = 40.0
SLEEP = ("/bin/sleep", "600")


class Watch:
    """A supervisor of shell commands and what it told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.told: list[str] = []
        self.news = asyncio.Event()
        self.supervisors: list[Supervisor] = []

    def tell(self, line: str) -> None:
        self.told.append(line)
        self.news.set()

    async def until(self, said: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while not any(said in line for line in self.told):
                self.news.clear()
                await self.news.wait()

    def program(
        self,
        name: str,
        *command: str,
        ready: Callable[[int], Addresses | None] = lambda pid: {"pid": str(pid)},
        problem: str | None = None,
    ) -> Program:
        async def tell_problem(_addresses: Addresses) -> str | None:
            return problem

        log_file = self.directory / f"{name}.log"
        return Program(name, lambda _known: command, ready, log_file, tell_problem)

    def supervisor(self, *programs: Program, ready_s_max: float = WAIT_S) -> Supervisor:
        lock_fd = os.open(self.directory, os.O_RDONLY)
        supervisor = Supervisor(
            [programs],
            lock_fd=lock_fd,
            tell=self.tell,
            policy=RestartPolicy(first_s=0.01, wait_s_max=0.05),
            ready_s_max=ready_s_max,
        )
        self.supervisors.append(supervisor)
        return supervisor


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    watch = Watch(tmp_path)
    yield watch
    for supervisor in watch.supervisors:
        await supervisor.stop()
        assert supervisor.pids == {}
        os.close(supervisor._lock_fd)


async def test_a_program_that_is_never_ready_is_named_with_what_it_complains_of(watch: Watch) -> None:
    supervisor = watch.supervisor(watch.program("a", *SLEEP, problem="bus: gone"), ready_s_max=0.2)
    with pytest.raises(StartFailed, match=r"^a was not ready within 0\.2 s: bus: gone$"):
        await supervisor.start()


async def test_a_program_that_never_announces_itself_is_named(watch: Watch) -> None:
    silent = watch.program("a", *SLEEP, ready=lambda _pid: None)
    with pytest.raises(StartFailed, match=r"^a was not ready within 0\.2 s$"):
        await watch.supervisor(silent, ready_s_max=0.2).start()


async def test_a_program_that_does_not_exist_is_named(watch: Watch) -> None:
    with pytest.raises(StartFailed, match=r"^a cannot be started: .*no-such-program"):
        await watch.supervisor(watch.program("a", "/no-such-program")).start()


async def test_one_that_fails_at_start_ends_the_start_of_all(watch: Watch) -> None:
    never = watch.program("b", *SLEEP, ready=lambda _pid: None)
    failing = watch.program("a", "/bin/false", ready=lambda _pid: None)
    with pytest.raises(StartFailed, match=r"^a ended with status 1$") as caught:
        await watch.supervisor(never, failing).start()
    assert caught.value.program is failing


async def test_a_program_that_keeps_ending_is_started_again_and_again_and_its_last_words_are_told(
    watch: Watch,
) -> None:
    count = watch.directory / "count"
    script = (
        f"echo some words; echo >> {count}; case $(wc -l < {count}) in 2 | 3) exit 3; esac; exec sleep 600"
    )
    supervisor = watch.supervisor(watch.program("a", "/bin/sh", "-c", script))
    await supervisor.start()
    async with asyncio.timeout(WAIT_S):
        while not (count.exists() and count.read_text()):  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.01)
    os.kill(supervisor.pids["a"], 9)
    await watch.until("a ended with status 3: some words (starting it again in 0.04 s; its log is ")
    async with asyncio.timeout(WAIT_S):
        while len(count.read_text().splitlines()) < 4:  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.01)
    await watch.until("a is ready again")
    ends = [line for line in watch.told if "starting it again" in line]
    assert [line.split(" (")[0] for line in ends] == [
        "a was ended by SIGKILL",
        *["a ended with status 3: some words"] * 2,
    ]
    assert all(line in ends or "is ready again" in line for line in watch.told), "one line an event"


async def test_only_the_program_that_ended_is_started_again(watch: Watch) -> None:
    supervisor = watch.supervisor(watch.program("a", *SLEEP), watch.program("b", *SLEEP))
    await supervisor.start()
    before = supervisor.pids
    os.kill(before["a"], 9)
    await watch.until("a is ready again")
    assert supervisor.pids["a"] != before["a"]
    assert supervisor.pids["b"] == before["b"]
    assert supervisor.addresses["a"] == {"pid": str(supervisor.pids["a"])}
