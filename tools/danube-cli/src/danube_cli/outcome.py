"""Exit codes, error messages, and the end of a command by an interrupt."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
LOST = 4
UNFIT = 5
INTERRUPTED = 130

EXIT_CODES = """Exit codes: 0 done, or the reader of the output has gone; 1 something failed or was refused;
2 wrong usage; 3 the platform cannot be reached or is not ready; 4 messages expired before they were read,
or were dropped; 5 messages do not fit the schema of their topic; 130 interrupted."""


def run(command: Coroutine[Any, Any, int]) -> int:
    """Run a command and return its exit code; print an error of the client in one line.

    The first interrupt cancels the command, which may still finish work in progress; the second one ends it
    at once.
    """
    try:
        return asyncio.run(_interruptible(command))
    except BrokenPipeError:
        return OK
    except KeyboardInterrupt:
        return INTERRUPTED


async def _interruptible(command: Coroutine[Any, Any, int]) -> int:
    from danube_client import ClientError, InvalidAddress, NotReady, Unreachable  # noqa: PLC0415 - slow to import

    task = asyncio.ensure_future(command)
    for interrupt in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(interrupt, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED
    except InvalidAddress as error:
        complain(f"Error: {error}")
        return USAGE
    except (Unreachable, NotReady) as error:
        complain(f"Error: {error}")
        return UNREACHABLE
    except ClientError as error:
        complain(f"Error: {error}")
        return FAILED


def complain(line: str) -> None:
    """Print one line to stderr."""
    sys.stderr.write(" ".join(line.split("\n")) + "\n")
    sys.stderr.flush()
