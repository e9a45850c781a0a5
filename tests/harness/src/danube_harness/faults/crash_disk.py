"""A file system in memory that loses what was not synced, as a machine without power does.

A crash keeps of each file an arbitrary choice of the sectors written since its last sync (so a tail
may be dropped, torn or reordered), and of each directory an arbitrary choice of its changes of names.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512

Choose = Callable[[], bool]
"""Decides, each time it is asked, whether one thing that was not synced is kept."""


class PowerCut(BaseException):
    """The simulated machine is off. A BaseException, so that no error handling of the program goes on."""


@dataclass(slots=True)
class _File:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    open_by: object | None = None

    def after_crash(self, keep: Choose) -> _File:
        kept = bytearray(self.durable)
        for start in range(0, len(self.content), SECTOR_BYTES):
            sector = bytes(self.content[start : start + SECTOR_BYTES])
            if sector != self.durable[start : start + SECTOR_BYTES] and keep():
                kept.extend(bytes(max(start + len(sector) - len(kept), 0)))
                kept[start : start + len(sector)] = sector
        return _File(kept, bytes(kept))


@dataclass(slots=True)
class _Directory:
    names: dict[str, _File | _Directory] = field(default_factory=dict)
    durable: dict[str, _File | _Directory] = field(default_factory=dict)

    def after_crash(self, keep: Choose, seen: dict[int, _File]) -> _Directory:
        kept = dict(self.durable)
        for name in sorted(self.names.keys() | self.durable.keys()):
            now = self.names.get(name)
            if now is not self.durable.get(name) and keep():
                if now is None:
                    del kept[name]
                else:
                    kept[name] = now
        left = _Directory()
        for name, node in kept.items():
            if isinstance(node, _Directory):
                left.names[name] = node.after_crash(keep, seen)
            else:
                left.names[name] = seen.setdefault(id(node), node.after_crash(keep))
        left.durable = dict(left.names)
        return left


class CrashDisk:
    """A FileSystem. Faults are set by the number of the operation that meets them, counted from 1.

    Args:
        cut_at: the power goes before this operation does anything; it and all later ones raise PowerCut.
        errors_at: operations that fail with an errno; a file's failed sync loses its unsynced content.
    """

    def __init__(self, *, cut_at: int | None = None, errors_at: dict[int, int] | None = None) -> None:
        self._root = _Directory()
        self._cut_at = cut_at
        self._errors_at = errors_at or {}
        self._lock = threading.Lock()
        self.operations = 0

    def after_crash(self, keep: Choose) -> CrashDisk:
        """The disk as it is found when the power is back, without further faults."""
        disk = CrashDisk()
        disk._root = self._root.after_crash(keep, {})
        return disk

    def create(self, path: Path) -> _Handle:
        """Create a file, open for writing. Raises FileExistsError."""
        with self._lock:
            self._operate()
            directory = self._directory(path.parent)
            if path.name in directory.names:
                raise _os_error(errno.EEXIST, path)
            file = _File(open_by=self)
            directory.names[path.name] = file
            return _Handle(self, file)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name. Raises FileExistsError."""
        with self._lock:
            self._operate()
            directory = self._directory(target.parent)
            if target.name in directory.names:
                raise _os_error(errno.EEXIST, target)
            directory.names[target.name] = self._file(source)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        with self._lock:
            self._operate()
            self._file(path)
            del self._directory(path.parent).names[path.name]

    def make_directory(self, path: Path) -> None:
        """Create a directory. Raises FileExistsError."""
        with self._lock:
            self._operate()
            directory = self._directory(path.parent)
            if path.name in directory.names:
                raise _os_error(errno.EEXIST, path)
            directory.names[path.name] = _Directory()

    def sync_directory(self, path: Path) -> None:
        """Make the names of a directory durable."""
        with self._lock:
            self._operate()
            directory = self._directory(path)
            directory.durable = dict(directory.names)

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Part of a file."""
        with self._lock:
            self._operate()
            return bytes(self._file(path).content[offset : offset + length])

    def evict(self, path: Path) -> None:
        """Do nothing: there is no cache."""
        with self._lock:
            self._operate()
            self._file(path)

    def size(self, path: Path) -> int:
        """Size of a file in bytes."""
        with self._lock:
            self._operate()
            return len(self._file(path).content)

    def list(self, path: Path) -> list[tuple[str, bool]]:
        """Names in a directory; True marks a directory."""
        with self._lock:
            self._operate()
            names = self._directory(path).names
            return [(name, isinstance(node, _Directory)) for name, node in names.items()]

    def is_abandoned(self, path: Path) -> bool:
        """Whether no open handle of this disk writes the file."""
        with self._lock:
            self._operate()
            return self._file(path).open_by is not self

    def write_to(self, file: _File, data: bytes) -> None:
        """Append to a file."""
        with self._lock:
            self._operate()
            file.content += data

    def sync(self, file: _File) -> None:
        """Make the content of a file durable."""
        with self._lock:
            try:
                self._operate()
            except OSError:
                # What the kernel could not write it forgets: reads see it until it is evicted, a later
                # sync has nothing left to write.
                file.durable += bytes(len(file.content) - len(file.durable))
                file.content[:] = file.durable
                raise
            file.durable = bytes(file.content)

    def _operate(self) -> None:
        self.operations += 1
        if self._cut_at is not None and self.operations >= self._cut_at:
            raise PowerCut
        code = self._errors_at.get(self.operations)
        if code is not None:
            raise OSError(code, os.strerror(code))

    def _directory(self, path: Path) -> _Directory:
        node: _File | _Directory = self._root
        for part in path.parts[1:]:
            if not isinstance(node, _Directory):
                raise _os_error(errno.ENOTDIR, path)
            if part not in node.names:
                raise _os_error(errno.ENOENT, path)
            node = node.names[part]
        if not isinstance(node, _Directory):
            raise _os_error(errno.ENOTDIR, path)
        return node

    def _file(self, path: Path) -> _File:
        node = self._directory(path.parent).names.get(path.name)
        if node is None:
            raise _os_error(errno.ENOENT, path)
        if isinstance(node, _Directory):
            raise _os_error(errno.EISDIR, path)
        return node


class _Handle:
    def __init__(self, disk: CrashDisk, file: _File) -> None:
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        self._disk.write_to(self._file, data)

    def sync(self) -> None:
        self._disk.sync(self._file)

    def close(self) -> None:
        self._file.open_by = None


def _os_error(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
