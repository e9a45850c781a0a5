"""Inputs that fuzzing found, each reaching code of its own: in the repository, in base64, one a line."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).with_name("corpus")
INPUT_BYTES_MAX: Final = 512
"""A longer input is not put into the repository."""
FINDINGS: Final = ("crash-", "timeout-", "oom-", "slow-unit-")


def kept(name: str) -> list[bytes]:
    """Return the inputs of a decoder."""
    file = CORPUS / f"{name}.txt"
    return [base64.b64decode(line) for line in file.read_text().splitlines()] if file.exists() else []


def keep(name: str, found: Path) -> None:
    """Add what a run has put into a folder."""
    files = [file for file in found.glob("*") if not file.name.startswith(FINDINGS)]
    inputs = {*kept(name), *(file.read_bytes() for file in files)}
    chosen = sorted(
        (one for one in inputs if 0 < len(one) <= INPUT_BYTES_MAX), key=lambda one: (len(one), one)
    )
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{name}.txt").write_text("".join(f"{base64.b64encode(one).decode()}\n" for one in chosen))
