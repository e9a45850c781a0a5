"""The files of backups: one directory for each, and the segments, which all of them share.

``20261129T021500Z/backup.json``    what the backup consists of; written last
``20261129T021500Z/metadata.jsonl`` one record of the metadata store a line
``20261129T021500Z/streams/``       each stream: ``NAME.json`` configures it, ``NAME.snapshot`` is its data
``segments/ARCHIVE/KEY``            segments that were on disk, as they were
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

FORMAT: Final = 1
READ_BYTES: Final = 1 << 20
UNFINISHED: Final = ".unfinished"
RECORD: Final = "backup.json"
METADATA: Final = "metadata.jsonl"
STREAMS: Final = "streams"
SEGMENTS: Final = "segments"

_NAME: Final = re.compile(r"\d{8}T\d{6}Z")
_PART: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


class Unreadable(Exception):
    """The backup cannot be used; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a backup; ``path`` is relative to the backup's directory."""

    path: str
    size_bytes: int
    blake2b: str


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment that the backup needs. ``blake2b`` is empty if its bytes are in S3, or gone."""

    key: str
    bundle: str
    first_sequence: int
    backend: str
    size_bytes: int
    gone: bool = False
    blake2b: str = ""

    @property
    def is_here(self) -> bool:
        """Whether its bytes belong to the backup."""
        return bool(self.blake2b)


@dataclass(frozen=True, slots=True)
class Record:
    """What a backup consists of."""

    name: str
    created_ms: int
    version: str
    archive: str
    files: tuple[StoredFile, ...]
    segments: tuple[StoredSegment, ...]

    @property
    def streams(self) -> list[str]:
        """The names of its streams, the journals first, as they are restored."""
        names = [Path(file.path).stem for file in self.files if file.path.endswith(".snapshot")]
        return sorted(names, key=lambda name: (name != "DANUBE_JOURNAL", name))


class Output:
    """A file that is being written; it is durable when `close` has returned."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.size_bytes = 0
        self._path = path
        self._digest = hashlib.blake2b(digest_size=32)
        self._file: BinaryIO = path.open("wb")

    def write(self, data: bytes) -> None:
        """Append to it."""
        self._file.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)

    def close(self) -> str:
        """Make it durable and return its digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()


class Backups:
    """All backups of one place."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Return the finished backups, the oldest first. Raises Unreadable if there is no such place."""
        if not self._root.is_dir():
            raise Unreadable(f"{self._root} is not a directory of backups")
        return sorted(
            one.name for one in self._root.iterdir() if _NAME.fullmatch(one.name) and (one / RECORD).is_file()
        )

    def chosen(self, name: str) -> Record:
        """Return the backup of this name, or the newest. Raises Unreadable."""
        names = self.names()
        if not names:
            raise Unreadable(f"{self._root} has no finished backup")
        if name and name not in names:
            raise Unreadable(f"{self._root} has no backup {name!r}; it has {', '.join(names[-5:])}")
        return self.record(name or names[-1])

    def record(self, name: str) -> Record:
        """Return what a backup consists of. Raises Unreadable."""
        file = self._root / name / RECORD
        try:
            told: dict[str, Any] = json.loads(file.read_bytes())
            if told["format"] != FORMAT:
                raise Unreadable(
                    f"{file} has format {told['format']}, and this danube-admin reads {FORMAT}: "
                    "use a newer danube-admin"
                )
            del told["format"]
            files = tuple(StoredFile(**one) for one in told.pop("files"))
            segments = tuple(StoredSegment(**one) for one in told.pop("segments"))
            return Record(files=files, segments=segments, **told)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise Unreadable(f"{file} cannot be read: {error}") from None

    def begin(self, name: str) -> None:
        """Make room for a new backup. Raises OSError."""
        (self._root / f"{name}{UNFINISHED}").mkdir(parents=True)

    def output(self, name: str, path: str) -> Output:
        """Open a file of an unfinished backup."""
        return Output(self._root / f"{name}{UNFINISHED}" / path)

    def finish(self, record: Record) -> None:
        """Write down what the backup consists of; only now it counts."""
        told = {"format": FORMAT, **asdict(record)}
        output = self.output(record.name, RECORD)
        output.write(json.dumps(told, indent=1).encode())
        output.close()
        (self._root / f"{record.name}{UNFINISHED}").rename(self._root / record.name)
        self._sync(self._root)

    def known_segments(self) -> dict[tuple[str, str], StoredSegment]:
        """Return the segments of all finished backups by archive and key, as far as their bytes are here."""
        found = {}
        for name in self.names():
            record = self.record(name)
            found.update({(record.archive, one.key): one for one in record.segments if one.is_here})
        return found

    def has_segment(self, archive: str, key: str, size_bytes: int) -> bool:
        """Return whether the file of a segment is here with this size."""
        try:
            return self.segment_path(archive, key).stat().st_size == size_bytes
        except OSError:
            return False

    def segment_path(self, archive: str, key: str) -> Path:
        """Return where the bytes of a segment are. Raises Unreadable for a key that leads elsewhere."""
        if not all(_PART.fullmatch(part) for part in (archive, *key.split("/"))):
            raise Unreadable(f"{key[:80]!r} is no key of a segment")
        return self._root / SEGMENTS / archive / key

    def write_segment(self, archive: str, key: str, data: Iterator[bytes]) -> tuple[int, str]:
        """Store a segment whole or not at all; return its size and its digest."""
        path = self.segment_path(archive, key)
        unfinished = path.with_name(f"{path.name}{UNFINISHED}")
        output = Output(unfinished)
        for part in data:
            output.write(part)
        digest = output.close()
        unfinished.rename(path)
        self._sync(path.parent)
        return output.size_bytes, digest

    def read(self, record: Record, path: str) -> Iterator[bytes]:
        """Yield the bytes of a file of a backup."""
        return _read(self._root / record.name / path)

    def read_segment(self, record: Record, segment: StoredSegment) -> Iterator[bytes]:
        """Yield the bytes of a segment of a backup."""
        return _read(self.segment_path(record.archive, segment.key))

    def _sync(self, directory: Path) -> None:
        opened = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def digest_of(data: Iterator[bytes]) -> tuple[int, str]:
    """Return the size and the digest of what is read."""
    digest, size_bytes = hashlib.blake2b(digest_size=32), 0
    for part in data:
        digest.update(part)
        size_bytes += len(part)
    return size_bytes, digest.hexdigest()


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            yield data
