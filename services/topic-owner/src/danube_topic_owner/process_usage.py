"""What this process takes of the machine: CPU time and resident memory, as the kernel counts them."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

STATM = Path("/proc/self/statm")
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def cpu_s() -> float:
    """CPU seconds of all threads since the process began."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_bytes() -> int:
    """Resident memory; where the kernel does not tell the present value, the highest so far."""
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_bytes_max() -> int:
    """What there is at most: the machine's memory, or the container's share of it."""
    machine = os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
    try:
        share = CGROUP_LIMIT.read_text().strip()
    except OSError:
        return machine
    return min(machine, int(share)) if share.isdigit() else machine
