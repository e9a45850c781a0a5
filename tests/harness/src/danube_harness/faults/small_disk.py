"""A disk that a test may fill: a file system in memory, of its own size."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
COMMAND_TIMEOUT_S = 10.0


class SmallDisk:
    """A tmpfs on ``directory``. Full, it takes no further byte, though nothing but its bound is changed."""

    def __init__(self, directory: Path, bytes_max: int) -> None:
        self.directory = directory
        self._bytes_max = bytes_max

    @classmethod
    @contextmanager
    def mounted(cls, directory: Path, bytes_max: int) -> Iterator[Self]:
        """Mount it as long as the context lasts; ``directory`` is made if it is not there.

        Raises:
            PermissionError: this user may not mount.
        """
        directory.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={bytes_max}", "danube-test", str(directory))
        try:
            yield cls(directory, bytes_max)
        finally:
            # Lazily: a process that is just being killed may still have a file open.
            _run("umount", "--lazy", str(directory))

    @property
    def used_bytes(self) -> int:
        """What its files take."""
        state = os.statvfs(self.directory)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def fill(self) -> None:
        """From now on every byte more is ENOSPC."""
        self._resize(max(PAGE_BYTES, self.used_bytes))

    def free(self) -> None:
        """There is room again. Idempotent."""
        self._resize(self._bytes_max)

    def _resize(self, bytes_max: int) -> None:
        _run("mount", "-o", f"remount,size={bytes_max}", str(self.directory))


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise PermissionError(f"there is no {command[0]} command") from error
    if done.returncode != 0:
        raise PermissionError(f"{' '.join(command)}: {done.stderr.strip()}")
