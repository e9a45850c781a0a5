"""The file system calls of the disk store, as a port behind which tests simulate crashes.

All calls block and raise OSError. A file is durable after a sync of the file and of its directory. A file
whose sync failed may be lost although a later sync succeeds.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o640


class NewFile(Protocol):
    """A file being written. It is locked until its writer closes it or dies."""

    def write(self, data: bytes) -> None:
        """Append all of ``data``."""

    def sync(self) -> None:
        """Make the content durable."""

    def close(self) -> None:
        """Unlock and close. Idempotent."""


class FileSystem(Protocol):
    """A file system, as far as the disk store uses it."""

    def create(self, path: Path) -> NewFile:
        """Create a file. Raises FileExistsError."""

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, atomically. Raises FileExistsError."""

    def unlink(self, path: Path) -> None:
        """Remove a name. Raises FileNotFoundError."""

    def make_directory(self, path: Path) -> None:
        """Create one directory. Raises FileExistsError."""

    def sync_directory(self, path: Path) -> None:
        """Make the directory's names durable."""

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Read a range; it is shorter only at the file's end."""

    def evict(self, path: Path) -> None:
        """Drop what is cached of a file and durable, so that it is read from the device, where possible."""

    def size(self, path: Path) -> int:
        """Return the bytes of a regular file. Raises IsADirectoryError for anything else."""

    def list(self, path: Path) -> list[tuple[str, bool]]:
        """Return (name, is a directory) of every regular file and directory in ``path``."""

    def is_abandoned(self, path: Path) -> bool:
        """Return whether the writer of a file that `create` made has closed it or died."""


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
    """FileSystem of the operating system."""

    def create(self, path: Path) -> NewFile:
        """See `FileSystem`."""
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
        """See `FileSystem`."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """See `FileSystem`."""
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """See `FileSystem`."""
        path.mkdir()

    def sync_directory(self, path: Path) -> None:
        """See `FileSystem`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """See `FileSystem`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise IsADirectoryError(f"{path} is not a regular file")
            chunks: list[bytes] = []
            while length:
                chunk = os.pread(descriptor, length, offset)
                if not chunk:
                    break
                chunks.append(chunk)
                offset += len(chunk)
                length -= len(chunk)
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            os.close(descriptor)

    def evict(self, path: Path) -> None:
        """See `FileSystem`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if hasattr(os, "posix_fadvise"):  # not on macOS
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)

    def size(self, path: Path) -> int:
        """See `FileSystem`."""
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise IsADirectoryError(f"{path} is not a regular file")
        return status.st_size

    def list(self, path: Path) -> list[tuple[str, bool]]:
        """See `FileSystem`."""
        with os.scandir(path) as entries:
            return [
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
            ]

    def is_abandoned(self, path: Path) -> bool:
        """See `FileSystem`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
