"""The audit log: who did what, on which resource, whether it was allowed, and why. Lines of JSON."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson
import structlog

LINES_PER_S_MAX: Final = 1_000
"""Denials beyond it are counted, and their number is written: a caller cannot fill the disk with refusals."""
OPEN_AGAIN_S: Final = 1.0
"""How often the file is looked at: one that was renamed is replaced by a new one."""
STDOUT: Final = Path("-")

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.security")


class AuditLog:
    """Appends to a file. A line is on its way to the disk when `write` returns.

    Args:
        path: the file, created with mode 0600; ``-`` is standard output.

    Attributes:
        problem: why lines are lost now; None if they are not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._looked_at = 0.0
        self.problem: str | None = None
        self._cut = False
        """Whether the file ends within a line."""
        self._second = 0
        self._lines = self._left_out = 0

    def start(self) -> None:
        """Open the file. Raises OSError."""
        self._open()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None and self._path != STDOUT:
            os.close(self._file)
        self._file = None

    def write(self, fields: Mapping[str, object], *, may_drop: bool = False) -> bool:
        """Append a line; return whether it was written. ``may_drop``: only count it if there are many."""
        now = time.time()
        if int(now) != self._second:
            left_out, self._left_out = self._left_out, 0
            self._second, self._lines = int(now), 0
            if left_out:
                self._append({"time": now, "left_out": left_out})
        self._lines += 1
        if may_drop and self._lines > LINES_PER_S_MAX:
            self._left_out += 1
            return True
        return self._append({"time": round(now, 3), **fields})

    def _append(self, fields: Mapping[str, object]) -> bool:
        data = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE, default=str)
        try:
            if time.monotonic() - self._looked_at >= OPEN_AGAIN_S or self._file is None:
                self._open()
            if self._cut:
                data = b"\n" + data
            written = os.write(self._file, data) if self._file is not None else 0
            if written != len(data):
                self._cut = self._cut or written > 0
                raise OSError("the line was cut")
            self._cut = False
        except OSError as error:
            if self.problem is None:
                _log.error("audit_lost", file=str(self._path), error=str(error))
            self.problem = f"the audit log cannot be written: {error}"
            return False
        if self.problem is not None:
            self.problem = None
            _log.info("audit_back", file=str(self._path))
        return True

    def _open(self) -> None:
        self._looked_at = time.monotonic()
        if self._path == STDOUT:
            self._file = sys.stdout.fileno()
            return
        if self._file is not None:
            try:
                if os.path.samestat(self._path.stat(), os.fstat(self._file)):
                    return
            except FileNotFoundError:
                pass  # it was renamed
            self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
