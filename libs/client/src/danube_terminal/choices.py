"""Words and numbers that options of several tools take."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer

UINT32_MAX: Final = 2**32 - 1
UINT64_MAX: Final = 2**64 - 1
"""The most that a field of a request holds."""


class Form(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


Output = Annotated[Form, typer.Option("--output", "-o", help="How results are printed.")]


class StorageChoice(StrEnum):
    """Where the segments of a reliable topic are stored."""

    memory = "memory"
    disk = "disk"
    s3 = "s3"


class RetentionChoice(StrEnum):
    """When messages of a reliable topic are deleted."""

    ack = "ack"
    expire = "expire"
