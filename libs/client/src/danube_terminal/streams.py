"""Runs a command line whose standard streams may be closed or full: one line on stderr, no traceback."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

FAILED = 1
"""Exit code of a program whose output could not be written."""


class Stderr(io.TextIOWrapper):
    """A stderr that drops what it cannot write: there is nowhere else to say it, and the exit code tells."""

    def write(self, text: str) -> int:
        """Write as far as possible."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush as far as possible."""
        with suppress(OSError, ValueError):
            super().flush()


def run(command_line: Callable[[], object]) -> NoReturn:
    """Run a command line and end the process with its exit code.

    It is FAILED if the output could not be written, and 0 if the reader of the output has gone.
    """
    _open()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors are told in one line, without gRPC's own
    code: object = 0
    try:
        command_line()
    except SystemExit as ended:
        code = ended.code
    except BrokenPipeError:
        pass
    except OSError as error:
        code = _unwritable(error)
    # What is left ends with the process. The interpreter would search it for cycles first: a quarter of the
    # time that a short command takes.
    gc.freeze()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        code = code or _unwritable(error)
    else:
        sys.exit(code)  # type: ignore[arg-type]
    # What cannot be written must not fail again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)  # type: ignore[arg-type]


def _unwritable(error: OSError) -> int:
    sys.stderr.write(f"Error: the output cannot be written: {error.strerror}\n")
    return FAILED


def _open() -> None:
    """Put files in the place of closed streams: reading stdin and writing stdout fail, stderr drops all.

    Without them the next files and sockets would become the standard streams.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_WRONLY), closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", closefd=False)
    nowhere = os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else None
    binary = sys.stderr.buffer if nowhere is None else os.fdopen(nowhere, "wb", closefd=False)
    sys.stderr = Stderr(binary, errors="backslashreplace", line_buffering=True)
