"""CPU time and memory of processes of this machine, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Watched:
    """The processes that have one name.

    Attributes:
        begun_s: their CPU time when measuring began.
        cpu_s: what they have used since.
        first_bytes: their resident memory when measuring began.
        last_bytes: and at the last look.
        most_bytes: and at its highest.
        gone: whether one of them has ended.
    """

    name: str
    pids: list[int]
    begun_s: float = 0.0
    cpu_s: float = 0.0
    first_bytes: int = 0
    last_bytes: int = 0
    most_bytes: int = 0
    gone: bool = False

    def begin(self) -> None:
        """Measure from now on."""
        self.begun_s = sum(self._read(pid)[0] for pid in self.pids)
        self.look()
        self.first_bytes = self.most_bytes = self.last_bytes

    def look(self) -> None:
        """Read again."""
        found = [self._read(pid) for pid in self.pids]
        if self.gone:
            return
        self.cpu_s = sum(cpu_s for cpu_s, _ in found) - self.begun_s
        self.last_bytes = sum(size for _, size in found)
        self.most_bytes = max(self.most_bytes, self.last_bytes)

    def _read(self, pid: int) -> tuple[float, int]:
        try:
            return cpu_s_of(pid), resident_bytes_of(pid)
        except (OSError, IndexError, ValueError):
            self.gone = True
            return 0.0, 0


def cpu_s_of(pid: int) -> float:
    """Return the CPU time of a process, user and system, in seconds. Raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_bytes_of(pid: int) -> int:
    """Return the resident memory of a process. Raises OSError."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
