"""The environment variables of the platform: all begin with ``DANUBE_``, and an unknown one is an error.

A process knows its own variables in full, ``DANUBE_<PROGRAM>_...``. Those of another program are left to it:
the processes of a machine or container may share an environment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Final

PREFIX: Final = "DANUBE_"
SERVICES: Final = ("gateway", "topic-owner", "storage", "admin")
PROGRAMS: Final = (*SERVICES, "standalone")
"""The programs that refuse unknown variables."""

VARIABLES_OF_TOOLS: Final = {
    "DANUBE_ADMIN_ENDPOINT": "danube-admin: where the admin service is",
    "DANUBE_CA": "danube-cli, danube-admin: authorities to trust",
    "DANUBE_CERT": "danube-cli, danube-admin: their certificate",
    "DANUBE_KEY": "danube-cli, danube-admin: the key of their certificate",
    "DANUBE_SERVER_NAME": "danube-cli, danube-admin: the name in the platform's certificate",
    "DANUBE_SERVICE_ADDR": "danube-cli, danube-perf: where they connect",
    "DANUBE_STORAGE_PATH": "danube-cli: the storage_path that it sends with --storage disk",
    "DANUBE_SLOTS_DIR": "containers: the volume whose numbered directories storage instances take",
}
"""Variables that no service reads, and who does."""

BENCHMARKS: Final = "DANUBE_BENCH_"
"""The prefix of the benchmarks' variables."""

SIMILARITY_MIN: Final = 0.75
"""How alike a known name must be to be named as what was meant, from 0 to 1."""

_KUBERNETES: Final = re.compile(
    r"(\w+?)_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes sets in each pod for a Service, here one whose name begins with ``danube-``."""


def variable(program: str, *path: str) -> str:
    """Return the variable of a setting, e.g. ``DANUBE_TOPIC_OWNER_LOG_LEVEL``."""
    return "_".join((PREFIX.rstrip("_"), program.replace("-", "_"), *path)).upper().replace("-", "_")


def unknown_variables(
    names: Iterable[str], program: str, known: Collection[str], candidates: Collection[str] = ()
) -> str:
    """Return one line about the variables that nobody reads; empty if there is none.

    Args:
        names: all variables that are set.
        program: whose process this is.
        known: the variables that the program reads.
        candidates: others that may have been meant.
    """
    present = [name for name in names if name.startswith(PREFIX)]
    others = tuple(variable(one, "") for one in PROGRAMS if one != program)
    told = []
    for name in sorted(present):
        if name in known or name in VARIABLES_OF_TOOLS or name.startswith((BENCHMARKS, *others)):
            continue
        service = _KUBERNETES.fullmatch(name)
        if service is not None and f"{service[1]}_SERVICE_HOST" in present:
            continue
        near = _nearest(name, [*known, *candidates, *VARIABLES_OF_TOOLS])
        hint = f"did you mean {near}?" if near else "--help lists the variables"
        told.append(f"unknown environment variable {name}, {hint}")
    return "; ".join(told)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most alike, whole or without its program; what all share counts for nothing."""
    by_text = {text: one for one in known for text in (one.removeprefix(PREFIX), _setting(one))}
    near = difflib.get_close_matches(_setting(name), by_text, n=1, cutoff=SIMILARITY_MIN)
    return by_text[near[0]] if near else None


def _setting(name: str) -> str:
    """``LOG_LEVEL`` of ``DANUBE_TOPIC_OWNER_LOG_LEVEL``."""
    for program in PROGRAMS:
        if name.startswith(variable(program, "")):
            return name.removeprefix(variable(program, ""))
    return name.removeprefix(PREFIX)
