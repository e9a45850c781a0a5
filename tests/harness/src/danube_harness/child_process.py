"""A child process that a test starts, kills, pauses and starts again."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from danube_harness.process_death import die_with_parent

OUTPUT_BYTES_SHOWN = 8_000


class ChildProcess:
    """A process whose name, ports and files stay the same across `kill` and `start`.

    A subclass says what to run (`_command`) and what keeps it from serving (`_problem`).

    Args:
        name: unique among the processes of a directory.
        directory: where the process runs; its output is appended to ``<name>.log`` there.
        environment: its variables; None: those of the test process.
    """

    start_timeout_s = 30.0
    stop_timeout_s = 20.0
    poll_interval_s = 0.01

    def __init__(self, name: str, directory: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.directory = directory
        self.log_file = directory / f"{name}.log"
        self._environment = environment
        self._process: Process | None = None
        self._log_start = 0

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The running process's id."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def output(self) -> str:
        """The last that the process wrote."""
        return self.log_file.read_text(errors="replace")[-OUTPUT_BYTES_SHOWN:]

    async def start(self) -> None:
        """Start the process, or start it again after it ended; returns when it serves.

        Raises:
            RuntimeError: the process ended or did not serve in time; the text shows its output.
        """
        assert not self.running, f"{self.name} is already running"
        with self.log_file.open("ab") as output:
            self._log_start = output.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env=self._environment,
                preexec_fn=die_with_parent,
            )
        try:
            await self.until_ready()
        except BaseException:
            await self.kill()
            raise

    async def until_ready(self) -> None:
        """Wait until the process serves. Raises RuntimeError as `start` does."""
        problem: str | None = None
        try:
            async with asyncio.timeout(self.start_timeout_s):
                # What another process writes and answers has no event here.
                while (problem := await self._problem()) is not None:
                    if not self.running:
                        raise RuntimeError(f"{self.name} ended before it was ready:\n{self.output}")
                    await asyncio.sleep(self.poll_interval_s)
        except TimeoutError:
            raise RuntimeError(
                f"{self.name} was not ready within {self.start_timeout_s} s ({problem}):\n{self.output}"
            ) from None

    async def kill(self) -> None:
        """SIGKILL, as a crash ends a process; returns when it is gone. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def stop(self) -> int:
        """SIGTERM, as an orchestrator stops a process. Returns its exit status.

        Raises:
            RuntimeError: the process did not end in time and was killed.
        """
        assert self._process is not None, f"{self.name} is not running"
        self._process.terminate()
        try:
            async with asyncio.timeout(self.stop_timeout_s):
                status = await self._process.wait()
        except TimeoutError:
            raise RuntimeError(f"{self.name} did not stop in time:\n{self.output}") from None
        finally:
            await self.kill()
        return status

    async def restart(self) -> None:
        """Kill the process if it runs, and start it on the same ports and files."""
        await self.kill()
        await self.start()

    def pause(self) -> None:
        """SIGSTOP: the process keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: the end of a `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def _command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    async def _problem(self) -> str | None:
        """What keeps the process from serving; None when it serves."""
        raise NotImplementedError

    def _output_of_this_start(self) -> str:
        with self.log_file.open("rb") as output:
            output.seek(self._log_start)
            return output.read().decode(errors="replace")
