"""Builds the programs of the official Rust clients."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

BUILD_S_MAX = 2400.0


class CannotBuild(Exception):
    """The programs cannot be built here; the text says why."""


def build(source: Path, *words: str, profile: str) -> Path:
    """Return the folder of the programs that the package in ``source`` has; the first time takes minutes."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise CannotBuild("there is no cargo here")
    target = Path(os.environ.get("CARGO_TARGET_DIR", source / "target"))
    ended = subprocess.run(
        [cargo, "build", "--locked", "--quiet", *words],
        cwd=source,
        env=os.environ | {"PROTOC": str(protoc(target))},
        capture_output=True,
        text=True,
        timeout=BUILD_S_MAX,
        check=False,
    )
    if ended.returncode:
        raise CannotBuild(f"cargo build ended with {ended.returncode}: {ended.stderr.strip()[-2000:]}")
    return target / profile


def clients() -> Path:
    """Return the folder of the programs of the clients: `current` is 0.15.1, `v0_2` is 0.2.0."""
    return build(Path(__file__).with_name("rust"), profile="debug")


def protoc(folder: Path) -> Path:
    """Protoc as a program in ``folder``, which the build of the current generation's client wants."""
    program = folder / "protoc"
    folder.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m grpc_tools.protoc "$@"\n')
    program.chmod(0o755)
    return program
