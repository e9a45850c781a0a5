"""CPU time and memory of this process, as the kernel counts them."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

STATM = Path("/proc/self/statm")
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def cpu_s() -> float:
    """Return the CPU seconds of all threads since the process began."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_bytes() -> int:
    """Return the resident memory; its highest value so far where the kernel tells only that."""
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_bytes_max() -> int:
    """Return the memory of the machine, or the limit of the container if that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
    try:
        share = CGROUP_LIMIT.read_text().strip()
    except OSError:
        return machine
    return min(machine, int(share)) if share.isdigit() else machine
