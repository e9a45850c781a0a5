"""The files of backups: a folder for each, and the segments, which all of them share.

``20261129T021500Z/backup.json``    what the backup consists of; written last
``20261129T021500Z/unfinished``     is there while it is made, or if it broke off
``20261129T021500Z/metadata.jsonl`` one record of the metadata store a line
``20261129T021500Z/streams/``       each stream: ``NAME.json`` configures it, ``NAME.snapshot`` is its data
``segments/ARCHIVE/KEY``            segments that were on disk, as they were
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from danube_admin_cli.backup_places import Output, Place, Unreadable

FORMAT: Final = 1
RECORD: Final = "backup.json"
BEGUN: Final = "unfinished"
"""Is there as long as a backup is made; its name is told to whoever looks."""
METADATA: Final = "metadata.jsonl"
STREAMS: Final = "streams"
SEGMENTS: Final = "segments"

_NAME: Final = re.compile(r"\d{8}T\d{6}Z")
_PART: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


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


class Backups:
    """All backups of one place."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def names(self) -> list[str]:
        """Return the finished backups, the oldest first. Raises Unreadable if there is no such place."""
        found = [name for name in self._place.groups() if _NAME.fullmatch(name)]
        return [name for name in found if self._place.size_of(f"{name}/{RECORD}") is not None]

    def chosen(self, name: str) -> Record:
        """Return the backup of this name, or the newest. Raises Unreadable, OSError."""
        names = self.names()
        if not names:
            raise Unreadable(f"{self._place} has no finished backup")
        if name and name not in names:
            raise Unreadable(f"{self._place} has no backup {name!r}; it has {', '.join(names[-5:])}")
        return self.record(name or names[-1])

    def record(self, name: str) -> Record:
        """Return what a backup consists of. Raises Unreadable."""
        file = f"{name}/{RECORD}"
        try:
            told: dict[str, Any] = json.loads(b"".join(self._place.read(file)))
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
        """Note that a backup was begun. Raises OSError, FileExistsError if there is one of this name."""
        if any(self._place.size_of(f"{name}/{one}") is not None for one in (BEGUN, RECORD)):
            raise FileExistsError(name)
        self._place.output(f"{name}/{BEGUN}").close()

    def output(self, name: str, path: str) -> Output:
        """Open a file of an unfinished backup."""
        return self._place.output(f"{name}/{path}")

    def finish(self, record: Record) -> None:
        """Write down what the backup consists of; only now it counts."""
        told = {"format": FORMAT, **asdict(record)}
        output = self.output(record.name, RECORD)
        output.write(json.dumps(told, indent=1).encode())
        output.close()
        self._place.delete(f"{record.name}/{BEGUN}")

    def known_segments(self) -> dict[tuple[str, str], StoredSegment]:
        """Return the segments of all finished backups by archive and key, as far as their bytes are here."""
        found = {}
        for name in self.names():
            record = self.record(name)
            found.update({(record.archive, one.key): one for one in record.segments if one.is_here})
        return found

    def has_segment(self, archive: str, key: str, size_bytes: int) -> bool:
        """Return whether the file of a segment is here with this size."""
        return self._place.size_of(segment_file(archive, key)) == size_bytes

    def segment_output(self, archive: str, key: str) -> Output:
        """Open the file of a segment, which all backups share."""
        return self._place.output(segment_file(archive, key))

    def delete_segment(self, archive: str, key: str) -> None:
        """Delete the file of a segment."""
        self._place.delete(segment_file(archive, key))

    def read(self, record: Record, path: str) -> Iterator[bytes]:
        """Yield the bytes of a file of a backup."""
        return self._place.read(f"{record.name}/{path}")

    def read_segment(self, record: Record, segment: StoredSegment) -> Iterator[bytes]:
        """Yield the bytes of a segment of a backup."""
        return self._place.read(segment_file(record.archive, segment.key))


def segment_file(archive: str, key: str) -> str:
    """Return where the bytes of a segment are. Raises Unreadable for a key that leads elsewhere."""
    if not all(_PART.fullmatch(part) for part in (archive, *key.split("/"))):
        raise Unreadable(f"{key[:80]!r} is no key of a segment")
    return f"{SEGMENTS}/{archive}/{key}"


def digest_of(data: Iterator[bytes]) -> tuple[int, str]:
    """Return the size and the digest of what is read."""
    digest, size_bytes = hashlib.blake2b(digest_size=32), 0
    for part in data:
        digest.update(part)
        size_bytes += len(part)
    return size_bytes, digest.hexdigest()
