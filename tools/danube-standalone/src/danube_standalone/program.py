"""A program that the launcher runs: its command, its readiness, its log file."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
"""A larger log file is moved to ``<name>.log.1``, so a program has at most twice this in logs."""

TAIL_BYTES: Final = 8 * 1024
WORDS_LINES_MAX: Final = 20
"""Lines at the end of a log of which one may tell why its program ended."""
FAILURE_LEVELS: Final = ("error", "critical")

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

Addresses = Mapping[str, str]


async def _no_problem(_addresses: Addresses) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Program:
    """A program and how to run it.

    Attributes:
        name: unique, e.g. ``topic-owner-2``.
        command: returns the command line for the addresses that the program announced in its previous run
            (none in the first run), so that a restarted program listens on the same ports.
        ready: returns the addresses that the process with this pid announced; None until it has.
        log_file: receives standard output and standard error.
        problem: returns why a process that announced these addresses does not serve yet; None when it does.
    """

    name: str
    command: Callable[[Addresses], Sequence[str]]
    ready: Callable[[int], Addresses | None]
    log_file: Path
    problem: Callable[[Addresses], Awaitable[str | None]] = _no_problem


async def start(program: Program, addresses: Addresses, *, lock_fd: int) -> Process:
    """Start a program; the kernel kills it when the launcher dies.

    The process has a process group of its own, so that Ctrl-C reaches the launcher only. It inherits
    ``lock_fd``, so that the data directory stays locked while any process uses it.
    """
    rotate(program.log_file)
    launcher = os.getpid()

    def die_with_launcher() -> None:
        # Between fork and exec: plain calls only.
        if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != launcher:
            os._exit(126)

    with program.log_file.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *program.command(addresses),
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock_fd,),
            process_group=0,
            preexec_fn=die_with_launcher,
        )


async def stop(process: Process, deadline_s: float) -> bool:
    """Send SIGTERM, and SIGKILL after ``deadline_s`` seconds; return whether SIGTERM was enough."""
    if process.returncode is not None:
        return True
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(deadline_s):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return False
    return True


def rotate(log_file: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Copy a log file larger than ``bytes_max`` to ``<name>.1`` and truncate it; its writer keeps it open.

    The writer appends, so it goes on at the start. Lines written between copy and truncation are lost, and
    those that a full disk has no room to copy.
    """
    try:
        if log_file.stat().st_size <= bytes_max:
            return
    except FileNotFoundError:
        return
    with contextlib.suppress(OSError):
        shutil.copyfile(log_file, log_file.with_name(f"{log_file.name}.1"))
    os.truncate(log_file, 0)


def last_words(log_file: Path) -> str:
    """Return why a program ended, as far as its last lines of log tell: an error, or what is no log entry."""
    for line in reversed(tail(log_file, WORDS_LINES_MAX)):
        try:
            entry = json.loads(line)
        except ValueError:
            return line.strip()
        if isinstance(entry, dict) and entry.get("level") in FAILURE_LEVELS:
            reason = str(entry.get("exception") or entry.get("error") or "").strip().splitlines()
            return ": ".join(str(one) for one in (entry.get("event"), *reason[-1:]) if one)
    return ""


def tail(log_file: Path, lines_max: int) -> list[str]:
    """Return the last lines of a log that are not empty, at most ``lines_max``."""
    try:
        with log_file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines_max:]
