"""Runs programs, restarts those that end, and stops all of them in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from typing import Final

from danube_standalone.program import Addresses, Program, last_words, rotate, start, stop
from danube_standalone.restarts import RestartPolicy, Restarts

POLL_S: Final = 0.02
ROTATE_INTERVAL_S: Final = 5.0
LAST_WORDS_MAX: Final = 300
"""Characters of a program's last words that are told."""


class StartFailed(Exception):
    """A program ended, or was not ready in time, while the platform started.

    Attributes:
        program: the program.
    """

    def __init__(self, program: Program, text: str) -> None:
        super().__init__(f"{program.name} {text}")
        self.program = program


class Supervisor:
    """Runs groups of programs.

    Args:
        waves: groups of programs in the order in which they are stopped: a group when the one before has
            ended. All programs start at the same time; each waits for the others it needs.
        lock_fd: inherited by every program, see `program.start`.
        tell: called with one line for people about each failure and what is done about it.
        changed: called whenever a process was started or became ready.
        policy: the back-off between restarts.
        ready_s_max: how long a program may take to become ready the first time.
        stop_s_max: how long a wave may take to stop before it is killed.
    """

    def __init__(
        self,
        waves: Sequence[Sequence[Program]],
        *,
        lock_fd: int,
        tell: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
        policy: RestartPolicy | None = None,
        ready_s_max: float = 30.0,
        stop_s_max: float = 6.0,
    ) -> None:
        self._waves = waves
        self._lock_fd = lock_fd
        self._tell = tell
        self._changed = changed
        self._policy = policy or RestartPolicy()
        self._ready_s_max = ready_s_max
        self._stop_s_max = stop_s_max
        self._processes: dict[str, Process] = {}
        self._addresses: dict[str, Addresses] = {}
        self._problems: dict[str, str | None] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._rotation: asyncio.Task[None] | None = None

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the running programs, by name."""
        return {name: one.pid for name, one in self._processes.items() if one.returncode is None}

    @property
    def addresses(self) -> dict[str, Addresses]:
        """The addresses that each program announced last, by name."""
        return dict(self._addresses)

    async def start(self) -> None:
        """Start all programs; return when all are ready. Raises StartFailed; call `stop` even then."""
        self._rotation = asyncio.create_task(self._rotate(), name="rotate logs")
        programs = [program for wave in self._waves for program in wave]
        try:
            async with asyncio.TaskGroup() as group:
                for program in programs:
                    group.create_task(self._first_start(program))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        for program in programs:
            keeper = asyncio.create_task(self._keep(program), name=f"keep {program.name}")
            self._keepers[program.name] = keeper

    async def failed(self) -> None:
        """Wait for ever; raise the error if the supervision itself fails."""
        for done in asyncio.as_completed([*self._keepers.values()]):
            await done

    async def stop(self) -> None:
        """Stop group by group; return when no process is left. Idempotent."""
        tasks = [*self._keepers.values(), *([self._rotation] if self._rotation else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for wave in self._waves:
            running = [program for program in wave if program.name in self._processes]
            ended = await asyncio.gather(
                *(stop(self._processes[program.name], self._stop_s_max) for program in running)
            )
            for program, in_time in zip(running, ended, strict=True):
                if not in_time:
                    self._tell(f"{program.name} did not stop within {self._stop_s_max:g} s and was killed")

    def restart(self, name: str) -> None:
        """Ask a running program to end; it is started again like any that ends."""
        process = self._processes[name]
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to all running processes."""
        for process in self._processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    async def _first_start(self, program: Program) -> None:
        try:
            process = await self._launch(program)
            async with asyncio.timeout(self._ready_s_max):
                if await self._until_ready(program, process):
                    return
        except OSError as error:
            text = f"cannot be started: {error}"
            if isinstance(error, TimeoutError):  # an OSError since Python 3.11
                problem = self._problems.get(program.name)
                text = f"was not ready within {self._ready_s_max:g} s{f': {problem}' if problem else ''}"
            raise StartFailed(program, text) from None
        raise StartFailed(program, how_it_ended(await process.wait()))

    async def _keep(self, program: Program) -> None:
        restarts = Restarts(self._policy)
        started = time.monotonic()
        while True:
            status = await self._processes[program.name].wait()
            wait_s = restarts.ended(time.monotonic() - started)
            self._tell_of_end(program, status, wait_s)
            await asyncio.sleep(wait_s)
            started = time.monotonic()
            try:
                process = await self._launch(program)
            except OSError as error:
                self._tell(f"{program.name} cannot be started: {error}")
                continue
            if await self._until_ready(program, process):
                self._tell(f"{program.name} is ready again (pid {process.pid})")

    async def _launch(self, program: Program) -> Process:
        known = self._addresses.get(program.name, {})
        process = await start(program, known, lock_fd=self._lock_fd)
        self._processes[program.name] = process
        self._changed()
        return process

    async def _until_ready(self, program: Program, process: Process) -> bool:
        """Wait until a process is ready; return False if it ended first. Both are polled."""
        addresses: Addresses | None = None
        while process.returncode is None:
            if addresses is None and (addresses := program.ready(process.pid)) is not None:
                self._addresses[program.name] = addresses
                self._changed()
            if addresses is not None:
                self._problems[program.name] = await program.problem(addresses)
                if self._problems[program.name] is None:
                    return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), POLL_S)
        return False

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_INTERVAL_S)
            for wave in self._waves:
                for program in wave:
                    rotate(program.log_file)

    def _tell_of_end(self, program: Program, status: int, wait_s: float) -> None:
        # What a program wrote last tells why it ended by itself, and nothing of why another one ended it.
        words = last_words(program.log_file)[:LAST_WORDS_MAX] if status > 0 else ""
        why = f": {words}" if words else ""
        self._tell(
            f"{program.name} {how_it_ended(status)}{why} (starting it again in {wait_s:g} s; "
            f"its log is {program.log_file})"
        )


def how_it_ended(status: int) -> str:
    """Describe the exit status of a process."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
