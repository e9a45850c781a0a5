"""``danube-admin backup``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from danube_admin_cli.admin import Stream
from danube_admin_cli.backup_files import (
    METADATA,
    STREAMS,
    Backups,
    Record,
    StoredFile,
    StoredSegment,
    digest_of,
)
from danube_admin_cli.backup_places import SCHEME, Output, Unreadable, place_of
from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import FAILED, USAGE, Yes, confirm, give_up
from danube_admin_cli.printing import show_figures
from danube_proto import danube_operations_pb2 as wire
from danube_terminal.plain import counted, size
from danube_terminal.program import tool_version

commands = Commands()

SERVICE: Final = "/danube_operations.Backup"
PROGRESS_INTERVAL_S: Final = 2.0
FAULTS_SHOWN_MAX: Final = 20
ENDPOINT_VARIABLE: Final = "AWS_ENDPOINT_URL_S3"

Where = Annotated[
    str, typer.Argument(metavar="PLACE", help="What holds the backups: a directory, or s3://BUCKET/PREFIX.")
]
Endpoint = Annotated[
    str,
    typer.Option(
        "--s3-endpoint-url",
        metavar="URL",
        help=f"Of an S3-compatible store other than Amazon S3; else the variable {ENDPOINT_VARIABLE}.",
    ),
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Which backup; the newest if absent.")]

CREATE_HELP = """Make a backup while the platform runs.

It holds the metadata, the journals, the logs of topics on disk, and the segments on disk. Segments in S3
are only named. Segments that an earlier backup in PLACE has are not copied again. Messages of topics in
memory are in no backup.

\b
Examples:
  danube-admin backup create /backups/danube
  danube-admin backup create /backups/danube -o json
  danube-admin backup create s3://backups/danube
"""
RESTORE_HELP = """Fill an empty cluster from a backup.

The endpoint is an admin instance that was started to restore (danube-standalone --restore, or
danube-admin-service --restore-enabled true), before any other service runs.

\b
Examples:
  danube-admin backup restore /backups/danube
  danube-admin backup restore /backups/danube --name 20261129T021500Z
"""


class _Progress:
    """Tells a terminal now and then how far the work is."""

    def __init__(self) -> None:
        self._told_s = time.monotonic()
        self._shown = sys.stderr.isatty()

    def tell(self, what: str, done_bytes: int) -> None:
        if self._shown and time.monotonic() - self._told_s >= PROGRESS_INTERVAL_S:
            self._told_s = time.monotonic()
            sys.stderr.write(f"{what}: {size(done_bytes)}\n")


@commands.command("create", help_text=CREATE_HELP)
def create(session: Session, place: Where, s3_endpoint_url: Endpoint = "") -> None:
    """Make a backup while the platform runs."""
    began_s = time.monotonic()
    try:
        backups = _opened(place, s3_endpoint_url)
        now, name = begun(backups)
        known = backups.known_segments()
        files, wanted, archive = _receive(session, backups, name)
        copied = _Copied()
        segments = tuple(_segment(session.stream, backups, archive, known, one, copied) for one in wanted)
        record = Record(
            name, int(now.timestamp() * 1000), tool_version("danube-admin"), archive, files, segments
        )
        backups.finish(record)
    except FileExistsError:
        give_up(f"{place} is no directory, or others make backups there at this moment", USAGE)
    except OSError as error:
        give_up(_told(place, error))
    except Unreadable as error:
        give_up(str(error))
    took_s = time.monotonic() - began_s
    written = sum(file.size_bytes for file in files) + copied.size_bytes
    show_figures(
        session.form,
        {
            "name": name,
            "seconds": round(took_s, 1),
            "bytes_written": written,
            "bytes_a_second": round(written / took_s),
            "streams": len(record.streams),
            "segments": sum(one.is_here for one in segments),
            "segments_copied": copied.count,
            "segments_in_s3": sum(one.backend == "s3" for one in segments),
        },
    )


def begun(backups: Backups) -> tuple[datetime, str]:
    """Begin a backup that is named by the second; if that has one already, the next second is awaited.

    Raises FileExistsError.
    """
    for last in (False, False, True):
        now = datetime.now(UTC)
        name = now.strftime("%Y%m%dT%H%M%SZ")
        try:
            backups.begin(name)
        except FileExistsError:
            if last:
                raise
            time.sleep(1 - now.microsecond / 1_000_000)
        else:
            break
    return now, name


@commands.command("verify")
def verify(session: Session, place: Where, name: Name = "", s3_endpoint_url: Endpoint = "") -> None:
    """Read a backup whole and compare it with its digests. Needs no cluster; looks at nothing in S3."""
    try:
        backups = _opened(place, s3_endpoint_url)
        record = backups.chosen(name)
        faults = list(_faults(backups, record))
    except OSError as error:
        give_up(_told(place, error))
    except Unreadable as error:
        give_up(str(error), USAGE)
    for fault in faults[:FAULTS_SHOWN_MAX]:
        sys.stderr.write(f"{fault}\n")
    here = [one for one in record.segments if one.is_here]
    show_figures(
        session.form,
        {
            "name": record.name,
            "bytes": sum(one.size_bytes for one in record.files) + sum(one.size_bytes for one in here),
            "files": len(record.files),
            "segments": len(here),
            "segments_in_s3": sum(one.backend == "s3" for one in record.segments),
            "damaged": len(faults),
        },
    )
    if faults:
        give_up(f"backup {record.name} is damaged: {counted(len(faults), 'file')} of it", FAILED)


@commands.command("restore", help_text=RESTORE_HELP)
def restore(
    session: Session, place: Where, name: Name = "", s3_endpoint_url: Endpoint = "", yes: Yes = False
) -> None:
    """Fill an empty cluster from a backup."""
    began_s = time.monotonic()
    try:
        backups = _opened(place, s3_endpoint_url)
        record = backups.chosen(name)
        fault = next(_faults(backups, record), None)
    except OSError as error:
        give_up(_told(place, error))
    except Unreadable as error:
        give_up(str(error), USAGE)
    if fault is not None:
        give_up(f"backup {record.name} is damaged: {fault}")
    confirm(f"Restore backup {record.name} into this cluster?", yes=yes)
    progress, last = _Progress(), wire.RestoreProgress()
    for last in session.stream(f"{SERVICE}/Restore", _parts(backups, record), wire.RestoreProgress):
        progress.tell("restored", last.bytes)
    if not last.done:
        give_up("the admin service ended the restore early: empty the stores and restore again")
    took_s = time.monotonic() - began_s
    show_figures(
        session.form,
        {
            "name": record.name,
            "seconds": round(took_s, 1),
            "bytes": last.bytes,
            "bytes_a_second": round(last.bytes / took_s),
            "records": last.records,
        },
    )


def _opened(place: str, endpoint_url: str) -> Backups:
    """Return the backups of a place. Raises BadParameter, and what `place_of` raises."""
    if endpoint_url and not place.startswith(SCHEME):
        raise typer.BadParameter(f"goes with a place {SCHEME}BUCKET", param_hint="'--s3-endpoint-url'")
    return Backups(place_of(place, endpoint_url or os.environ.get(ENDPOINT_VARIABLE, "")))


def _told(place: str, error: OSError) -> str:
    return f"{error.filename or place}: {error.strerror}"


class _Copied:
    """What was copied of segments."""

    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0
        self.progress = _Progress()


def _receive(
    session: Session, backups: Backups, name: str
) -> tuple[tuple[StoredFile, ...], list[StoredSegment], str]:
    """Write the streams and the metadata; return them, the segments that are needed, and their archive."""
    files: dict[str, StoredFile] = {}
    segments: list[StoredSegment] = []
    writing: dict[str, Output] = {}
    progress, received = _Progress(), 0

    def close(path: str) -> None:
        output = writing.pop(path)
        files[path] = StoredFile(path, output.size_bytes, output.close())

    for part in session.stream(f"{SERVICE}/Create", wire.CreateBackupRequest(), wire.BackupPart):
        received += len(part.data)
        progress.tell(part.name or "metadata", received)
        if part.kind == wire.BackupPart.END:
            break
        if part.kind == wire.BackupPart.SEGMENT:
            of = part.segment
            segments.append(StoredSegment(part.name, of.bundle, of.first_sequence, of.backend, of.size_bytes))
            continue
        path = METADATA if part.kind == wire.BackupPart.METADATA else f"{STREAMS}/{part.name}.snapshot"
        if part.head:
            # A stream may come again from its beginning.
            writing.pop(path, None)
            head = f"{STREAMS}/{part.name}.json"
            writing[head] = backups.output(name, head)
            writing[head].write(part.head)
            close(head)
        if path not in writing:
            writing[path] = backups.output(name, path)
        writing[path].write(part.data)
        if part.last:
            close(path)
    else:
        give_up("the admin service ended the backup early: it is not complete")
    return tuple(files.values()), segments, part.archive


def _segment(
    stream: Stream,
    backups: Backups,
    archive: str,
    known: dict[tuple[str, str], StoredSegment],
    segment: StoredSegment,
    copied: _Copied,
) -> StoredSegment:
    """Return the segment with its digest, copied if it is not here yet."""
    if segment.backend != "disk":
        return segment
    if backups.has_segment(archive, segment.key, segment.size_bytes):
        earlier = known.get((archive, segment.key))
        if earlier is not None:
            return replace(segment, blake2b=earlier.blake2b)
    request = wire.ReadSegmentRequest(
        bundle=segment.bundle, first_sequence=segment.first_sequence, key=segment.key
    )
    output = backups.segment_output(archive, segment.key)
    for part in stream(f"{SERVICE}/ReadSegment", request, wire.SegmentPart):
        if part.gone:
            output.close()
            backups.delete_segment(archive, segment.key)
            return replace(segment, gone=True)
        if part.anew and output.size_bytes:
            output.close()  # replaced
            output = backups.segment_output(archive, segment.key)
        output.write(part.data)
        copied.progress.tell(f"segments ({copied.count} copied)", copied.size_bytes + output.size_bytes)
    digest = output.close()
    copied.count += 1
    copied.size_bytes += output.size_bytes
    return replace(segment, blake2b=digest)


def _faults(backups: Backups, record: Record) -> Iterator[str]:
    """Yield what is wrong with a backup, a sentence each."""
    written = [
        (one.path, one.size_bytes, one.blake2b, backups.read(record, one.path)) for one in record.files
    ]
    written += [
        (one.key, one.size_bytes, one.blake2b, backups.read_segment(record, one))
        for one in record.segments
        if one.is_here
    ]
    for name, size_bytes, digest, data in written:
        try:
            found = digest_of(data)
        except OSError as error:
            yield f"{name} cannot be read: {error.strerror}"
            continue
        if found != (size_bytes, digest):
            yield f"{name} is not what was written"


def _parts(backups: Backups, record: Record) -> Iterator[wire.BackupPart]:
    kinds = wire.BackupPart
    for stream in record.streams:
        head = b"".join(backups.read(record, f"{STREAMS}/{stream}.json"))
        yield kinds(kind=kinds.STREAM, name=stream, head=head)
        for data in backups.read(record, f"{STREAMS}/{stream}.snapshot"):
            yield kinds(kind=kinds.STREAM, name=stream, data=data)
        yield kinds(kind=kinds.STREAM, name=stream, last=True)
    for data in backups.read(record, METADATA):
        yield kinds(kind=kinds.METADATA, data=data)
    yield kinds(kind=kinds.METADATA, last=True)
    for segment in record.segments:
        told = wire.Segment(
            bundle=segment.bundle,
            first_sequence=segment.first_sequence,
            backend=segment.backend,
            size_bytes=segment.size_bytes,
            gone=segment.gone,
        )
        if segment.is_here:
            for data in backups.read_segment(record, segment):
                yield kinds(kind=kinds.SEGMENT, name=segment.key, segment=told, data=data)
        if segment.is_here or segment.gone:
            yield kinds(kind=kinds.SEGMENT, name=segment.key, segment=told, last=True)
    yield kinds(kind=kinds.END, last=True)
