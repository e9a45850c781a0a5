"""Builds and runs the measuring program of the official Rust client, `rust-bench`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("rust-bench")
BUILD_S_MAX = 1800.0
RUN_S_MAX = 300.0
SIZE_BYTES = 1024


class CannotBuild(Exception):
    """The program cannot be built here; the text says why."""


def build() -> Path:
    """Return the built program; the first time takes minutes and needs crates.io."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise CannotBuild("cargo is not installed: the official Rust client is not measured")
    target = Path(os.environ.get("CARGO_TARGET_DIR", SOURCE / "target"))
    words = [cargo, "build", "--release", "--locked", "--quiet"]
    ended = subprocess.run(
        words, cwd=SOURCE, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False
    )
    if ended.returncode:
        raise CannotBuild(f"cargo build ended with {ended.returncode}: {ended.stderr.strip()[-2000:]}")
    return target / "release" / "danube-rust-bench"


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
