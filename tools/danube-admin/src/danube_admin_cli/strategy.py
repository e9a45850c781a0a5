"""The dispatch strategy as one string of the wire."""

from __future__ import annotations

from enum import StrEnum

import typer

RELIABLE = "reliable"
NON_RELIABLE = "non-reliable"


class Storage(StrEnum):
    memory = "memory"
    disk = "disk"
    s3 = "s3"


class Retention(StrEnum):
    ack = "ack"
    expire = "expire"


def compact(
    strategy: str,
    storage: Storage | None,
    segment_size: int | None,
    retention: Retention | None,
    retention_period: int | None,
) -> str:
    """``non-reliable``, ``reliable``, or ``reliable:`` and those options that were given.

    Raises:
        typer.BadParameter: another strategy, or options of a reliable one with one that is not.
    """
    name, colon, options_text = strategy.strip().partition(":")
    name = name.strip().lower().replace("_", "-")
    if name not in (RELIABLE, NON_RELIABLE) or (colon and name == NON_RELIABLE):
        raise typer.BadParameter(
            f"{strategy!r} is neither reliable nor non-reliable", param_hint="'--dispatch-strategy'"
        )
    given = {
        "segment_size": segment_size,
        "storage": storage and storage.value,
        "retention": retention and retention.value,
        "retention_period": retention_period,
    }
    options = [f"{key}={value}" for key, value in given.items() if value is not None]
    if options and name == NON_RELIABLE:
        raise typer.BadParameter(
            "storage and retention are for --dispatch-strategy reliable", param_hint="'--dispatch-strategy'"
        )
    everything = ",".join([*filter(None, [options_text.strip()]), *options])
    return f"{name}:{everything}" if everything else name
