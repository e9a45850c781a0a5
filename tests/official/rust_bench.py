"""Builds and runs the measuring program of the official Rust client, `rust-bench`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.official import rust_build
from tests.official.rust_build import CannotBuild

__all__ = ["CannotBuild", "build", "measure"]

SOURCE = Path(__file__).with_name("rust-bench")
RUN_S_MAX = 300.0
SIZE_BYTES = 1024


def build() -> Path:
    """Return the built program; the first time takes minutes and needs crates.io."""
    return rust_build.build(SOURCE, "--release", profile="release") / "danube-rust-bench"


def measure(program: Path, url: str, command: str, kind: str, producers: int, seconds: float) -> Any:
    """Return the figures that the program prints.

    Raises:
        RuntimeError: it failed; the text is what it said.
    """
    words = [str(program), url, command, kind, str(producers), str(seconds), str(SIZE_BYTES)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    if ended.returncode:
        raise RuntimeError(f"the Rust client ended with {ended.returncode}: {ended.stderr}")
    return json.loads(ended.stdout)
