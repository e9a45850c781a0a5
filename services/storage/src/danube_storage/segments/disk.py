"""Segments as files under one directory, durable before `put` returns."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from danube_common.errors import AlreadyExists, NotFound, StoreFull, StoreUnavailable
from danube_storage.segments.file_system import FileSystem, LocalFileSystem, NewFile
from danube_storage.segments.port import check_key, check_prefix, check_range

IO_THREADS_DEFAULT = 4
WRITE_BYTES = 1 << 20
DIRECTORIES_REMEMBERED_MAX = 1 << 16
TEMPORARY_PREFIX = ".new-"
"""No key part starts with a dot, so a file being written is never taken for a segment."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

P = ParamSpec("P")
R = TypeVar("R")


class DiskStore:
    """SegmentStore on a local file system. A key must not be a directory of another key.

    A segment is written under a temporary name beside its own, synced, given its name by a link, which
    is atomic and fails if the name exists, and is durable once the directory is synced too. A failed sync
    is never repeated on the same file, as the kernel may have dropped the data. (Names are journaled: a
    file system that cannot write its journal refuses all changes.)

    Args:
        root: the directory for segments, created if missing. Several processes may share it.
        file_system: replaced in tests.
        io_threads: the most file operations at once.
    """

    def __init__(
        self, root: Path, *, file_system: FileSystem | None = None, io_threads: int = IO_THREADS_DEFAULT
    ) -> None:
        self._root = root.absolute()
        self._files: FileSystem = file_system or LocalFileSystem()
        self._threads = ThreadPoolExecutor(io_threads, thread_name_prefix="segments")
        self._durable_directories: set[Path] = set()
        self._unsynced_above: set[Path] = set()

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """See the port."""
        await self._put(key, chunks, self._name)

    async def replace(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """See `LocalStore`."""
        await self._put(key, chunks, self._rename)

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """See the port."""
        check_range(offset, length)
        return await self._run(self._files.read, self._path(key), offset, length)

    async def size(self, key: str) -> int:
        """See the port."""
        return await self._run(self._files.size, self._path(key))

    async def evict(self, key: str) -> None:
        """See `LocalStore`."""
        await self._run(self._files.evict, self._path(key))

    async def list(self, prefix: str) -> list[str]:
        """See the port."""
        check_prefix(prefix)
        return await self._run(lambda: sorted(self._walk(prefix, temporary=False)))

    async def delete(self, key: str) -> None:
        """See the port."""
        await self._run(self._delete, self._path(key))

    async def sweep(self) -> int:
        """Remove the temporary files of dead writers; return their number. Safe at any time."""
        return await self._run(self._sweep)

    async def close(self) -> None:
        """See the port."""
        await asyncio.to_thread(self._threads.shutdown)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    async def _run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        def mapped() -> R:
            with _as_store_errors():
                return call(*args, **kwargs)

        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, mapped)
        except RuntimeError as error:
            raise StoreUnavailable("the segment store is closed") from error
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # A thread cannot be interrupted, and the next step must not run at the same time.
            await asyncio.wait([future])
            _ = future.cancelled() or future.exception()
            raise

    async def _put(self, key: str, chunks: AsyncIterator[bytes], name: Callable[[Path, Path], None]) -> None:
        path = self._path(key)
        temporary, file = await self._write(self._create, path.parent)
        try:
            await self._fill(file, chunks)
            await self._write(file.sync)
            await self._write(name, temporary, path)
        finally:
            await self._write(self._discard, temporary, file)

    async def _write(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await self._run(call, *args, **kwargs)
        except NotFound as error:
            raise StoreUnavailable(f"a file was removed while it was written: {error}") from error

    async def _fill(self, file: NewFile, chunks: AsyncIterator[bytes]) -> None:
        held: list[bytes] = []
        held_bytes = 0
        async for chunk in chunks:
            held.append(chunk)
            held_bytes += len(chunk)
            if held_bytes >= WRITE_BYTES:
                await self._write(file.write, b"".join(held))
                held, held_bytes = [], 0
        await self._write(file.write, b"".join(held))

    def _create(self, directory: Path) -> tuple[Path, NewFile]:
        self._make_durable(directory)
        temporary = directory / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        try:
            return temporary, self._files.create(temporary)
        except FileNotFoundError:
            # Somebody has deleted directories that were made before.
            self._durable_directories.clear()
            self._make_durable(directory)
            return temporary, self._files.create(temporary)

    def _make_durable(self, directory: Path) -> None:
        """Make the directory exist durably, even if another writer has just created it."""
        if directory in self._durable_directories:
            return
        if directory != self._root:
            self._make_durable(directory.parent)
        self._make(directory)
        # Also directories that an earlier call created and could not sync.
        for above in list(self._unsynced_above):
            self._files.sync_directory(above)
            self._unsynced_above.discard(above)
        self._files.sync_directory(directory.parent)
        if len(self._durable_directories) >= DIRECTORIES_REMEMBERED_MAX:
            self._durable_directories.clear()
        self._durable_directories.add(directory)

    def _make(self, directory: Path) -> None:
        try:
            self._files.make_directory(directory)
        except FileExistsError:
            return
        except FileNotFoundError:
            # Only above the root: below it, the parent has just been created.
            self._make(directory.parent)
            self._unsynced_above.add(directory.parent.parent)
            self._make(directory)

    def _name(self, temporary: Path, path: Path) -> None:
        try:
            self._files.link(temporary, path)
        except FileExistsError:
            if not self._is_same(temporary, path):
                raise AlreadyExists(f"segment {path.name} exists with other content") from None
        # Also for existing content: its writer may have died before this step.
        self._files.sync_directory(path.parent)

    def _rename(self, temporary: Path, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(path)
        self._name(temporary, path)

    def _is_same(self, one: Path, other: Path) -> bool:
        try:
            if self._files.size(one) != self._files.size(other):
                return False
        except IsADirectoryError:
            return False
        offset = 0
        while True:
            mine = self._files.read(one, offset, WRITE_BYTES)
            if mine != self._files.read(other, offset, WRITE_BYTES):
                return False
            if not mine:
                return True
            offset += len(mine)

    def _discard(self, temporary: Path, file: NewFile) -> None:
        # A file that stays is removed by `sweep`; the outcome of the write is decided already.
        with contextlib.suppress(OSError):
            self._files.unlink(temporary)
        with contextlib.suppress(OSError):
            file.close()

    def _delete(self, path: Path) -> None:
        try:
            self._files.size(path)
            self._files.unlink(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            pass
        # Also if the file is missing: an earlier delete may have failed before its sync.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._files.sync_directory(path.parent)

    def _sweep(self) -> int:
        swept = 0
        for name in self._walk("", temporary=True):
            with contextlib.suppress(FileNotFoundError):
                if self._files.is_abandoned(self._root / name):
                    self._files.unlink(self._root / name)
                    swept += 1
        return swept

    def _walk(self, prefix: str, *, temporary: bool) -> Iterator[str]:
        try:
            entries = self._files.list(self._root / prefix)
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, is_directory in entries:
            if is_directory and not name.startswith("."):
                yield from self._walk(f"{prefix}{name}/", temporary=temporary)
            elif not is_directory and name.startswith(TEMPORARY_PREFIX) == temporary:
                yield f"{prefix}{name}"


@contextlib.contextmanager
def _as_store_errors() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"there is no segment {error.filename or error}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise AlreadyExists(f"{error.filename} is in the way") from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull(f"the segment directory has no room: {error.strerror}") from error
        raise StoreUnavailable(f"the segment directory failed: {error}") from error
