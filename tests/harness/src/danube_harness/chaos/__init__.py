"""Faults by a seed on a running platform under load, and what became of every message."""

from __future__ import annotations

# Before anything imports gRPC: the programs are started by forks of a process that uses it.
import danube_harness.process_death  # noqa: F401
