"""What the disk store asks of a file system: a seam that crashes can be simulated behind.

All calls block and raise OSError. Nothing is durable before the file and the directory that names it
were synced; a file whose sync failed may be lost though a later sync succeeds.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o640


class NewFile(Protocol):
    """A file being written, locked for as long as its writer lives."""

    def write(self, data: bytes) -> None:
        """Append all of ``data``."""

    def sync(self) -> None:
        """Make the content durable."""

    def close(self) -> None:
        """Unlock and close. Idempotent."""


class FileSystem(Protocol):
    def create(self, path: Path) -> NewFile:
        """A new file; FileExistsError if the name is taken."""

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, atomically; FileExistsError if the name is taken."""

    def unlink(self, path: Path) -> None:
        """Take a name away; FileNotFoundError if there is none."""

    def make_directory(self, path: Path) -> None:
        """One level; FileExistsError if the name is taken."""

    def sync_directory(self, path: Path) -> None:
        """Make the directory's names durable."""

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Fewer bytes only at the file's end."""

    def size(self, path: Path) -> int:
        """Bytes of a regular file; IsADirectoryError for anything else."""

    def list(self, path: Path) -> list[tuple[str, bool]]:
        """(name, is it a directory) of every regular file and directory in ``path``."""

    def is_abandoned(self, path: Path) -> bool:
        """Whether nobody writes this file, made by `create`, any more."""


class _LockedFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class LocalFileSystem:
    """FileSystem by the operating system's calls."""

    def create(self, path: Path) -> NewFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, FILE_MODE)
        file = _LockedFile(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_directory(self, path: Path) -> None:
        path.mkdir()

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: Path, offset: int, length: int) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise IsADirectoryError(f"{path} is not a regular file")
            pieces: list[bytes] = []
            while length:
                piece = os.pread(descriptor, length, offset)
                if not piece:
                    break
                pieces.append(piece)
                offset += len(piece)
                length -= len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            os.close(descriptor)

    def size(self, path: Path) -> int:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise IsADirectoryError(f"{path} is not a regular file")
        return status.st_size

    def list(self, path: Path) -> list[tuple[str, bool]]:
        with os.scandir(path) as entries:
            return [
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
            ]

    def is_abandoned(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
