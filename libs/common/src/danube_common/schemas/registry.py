"""The schema registry over the metadata store.

Its callers are the gRPC services of the gateway and the admin port, and the producers of the current
generation, which resolve a schema reference with `SchemaRegistry.resolve`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, ParamSpec, TypeVar

from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record, read_record, read_records
from danube_common.errors import Conflict, InvalidInput, LimitExceeded, MetadataUnavailable, NotFound, Refused
from danube_common.metadata.port import MetadataStore
from danube_common.metadata.rewrite import ATTEMPTS_MAX, rewrite
from danube_common.model.ids import ID_MAX
from danube_common.model.names import PART_BYTES_MAX, check_label
from danube_common.model.schema import SCHEMA_BYTES_MAX
from danube_common.schemas.compatibility import incompatibilities, parse_definition
from danube_common.schemas.definition import Definition
from danube_common.schemas.kinds import CompatibilityMode, SchemaType
from danube_common.schemas.records import LastId, Subject, VersionRecord, VersionSummary

SUBJECTS_MAX: Final = 10_000
"""Subjects of the cluster."""
VERSIONS_MAX: Final = 1_000
"""Versions that one subject gets in its life, with those that were deleted."""
SUBJECT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of all definitions of one subject."""
DESCRIPTION_CHARACTERS_MAX: Final = 4_096
TAGS_MAX: Final = 16
TAG_CHARACTERS_MAX: Final = 64
VERSION_MAX: Final = (1 << 32) - 1

P = ParamSpec("P")
R = TypeVar("R")

_THREAD: Final = ThreadPoolExecutor(1, "schemas")


@dataclass(frozen=True, slots=True)
class Registered:
    """The outcome of a registration. ``is_new``: the version did not exist before."""

    subject: Subject
    version: VersionSummary
    is_new: bool


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """One version of a subject with its definition, as its creator gave it."""

    subject: Subject
    version: VersionSummary
    definition: bytes


@dataclass(frozen=True, slots=True)
class NewSchema:
    """A schema to register: type and definition, and what people want to know about it."""

    kind: SchemaType
    definition: bytes
    description: str = ""
    created_by: str = ""
    tags: tuple[str, ...] = ()


class SchemaRegistry:
    """Subjects and their versions. Every method raises MetadataUnavailable when the store does not answer."""

    def __init__(self, store: MetadataStore, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def register(self, subject: str, schema: NewSchema) -> Registered:
        """Add a version to a subject, which is created if it is missing; or return the one that is the same.

        Raises:
            InvalidInput: the name or the definition is not valid, or over a bound.
            Refused: the definition is not compatible with the subject's versions; says why.
            LimitExceeded: too many subjects, versions or bytes, or too large to compare.
        """
        check_subject(subject)
        _check_notes(schema)
        definition = await parsed(schema)
        fingerprint = fingerprint_of(definition)
        for _ in range(ATTEMPTS_MAX):
            found = await self._find(subject) or await self._create(subject)
            summaries = await self._summaries(found.schema_id)
            for summary in summaries:
                if not summary.deleted and summary.fingerprint == fingerprint:
                    return Registered(found, summary, is_new=False)
            _check_room(subject, summaries, len(schema.definition))
            if problems := await self._problems(found, definition, found.compatibility, summaries):
                raise Refused(
                    f"the schema is not {found.compatibility} compatible with subject {subject}: "
                    + "; ".join(problems)
                )
            summary = VersionSummary(
                summaries[-1].version + 1 if summaries else 1,
                schema.kind,
                fingerprint,
                len(schema.definition),
                schema.description,
                schema.created_by,
                schema.tags,
                self._now_ms(),
            )
            if await self._write(found.schema_id, VersionRecord(summary, schema.definition)):
                return Registered(found, summary, is_new=True)
        raise MetadataUnavailable(f"subject {subject} was changed by others {ATTEMPTS_MAX} times in a row")

    async def resolve(
        self, subject: str, *, pinned: int | None = None, minimum: int | None = None
    ) -> RegisteredSchema:
        """Return the version that a producer's schema reference means.

        Args:
            subject: its name.
            pinned: exactly this version; None: the latest.
            minimum: the latest version, which must be this one or a later one.

        Raises:
            NotFound: no such subject or version.
        """
        found = await self.subject(subject)
        if pinned is not None:
            return await self._version(found, pinned)
        live = [each for each in await self._summaries(found.schema_id) if not each.deleted]
        if not live:
            raise NotFound(f"subject {subject} has no version")
        latest = live[-1].version
        if minimum is not None and latest < minimum:
            raise NotFound(f"subject {subject} has no version {minimum} or later, its latest is {latest}")
        return await self._version(found, latest)

    async def get(self, schema_id: int, version: int | None = None) -> RegisteredSchema:
        """Return a version of the subject with this id, the latest if none is named. Raises NotFound."""
        entry = await self._store.get(keys.schema_id_key(schema_id)) if 0 < schema_id <= ID_MAX else None
        if entry is None:
            raise NotFound(f"there is no schema id {schema_id}")
        return await self.resolve(entry.value.decode(), pinned=version)

    async def subject(self, name: str) -> Subject:
        """Return a subject. Raises InvalidInput, NotFound."""
        found = await self._find(check_subject(name))
        if found is None:
            raise NotFound(f"subject {name} does not exist")
        return found

    async def versions(self, subject: str) -> list[VersionSummary]:
        """Return the versions of a subject in ascending order, without deleted ones. Raises NotFound."""
        found = await self.subject(subject)
        return [summary for summary in await self._summaries(found.schema_id) if not summary.deleted]

    async def subjects(self) -> list[tuple[Subject, VersionSummary | None]]:
        """Return all subjects by name, each with its latest version; None if all were deleted."""
        subjects = await read_records(self._store, keys.SUBJECTS, Subject)
        versions = await self._store.list(keys.SCHEMA_VERSIONS)
        latest: dict[str, VersionSummary] = {}
        for entry in versions.entries:
            summary = decode_record(VersionSummary, entry.value)
            if not summary.deleted:
                latest[entry.key.rpartition("/")[0] + "/"] = summary
        return [
            (each, latest.get(keys.schema_versions_prefix(each.schema_id)))
            for each in sorted(subjects, key=lambda each: each.name)
        ]

    async def check(
        self, subject: str, schema: NewSchema, mode: CompatibilityMode | None = None
    ) -> list[str]:
        """Return why a schema cannot become the subject's next version; nothing if it can.

        ``mode`` is tried instead of the subject's own. Raises InvalidInput, NotFound, LimitExceeded.
        """
        found = await self.subject(subject)
        definition = await parsed(schema)
        summaries = await self._summaries(found.schema_id)
        return await self._problems(found, definition, mode or found.compatibility, summaries)

    async def delete_version(self, subject: str, version: int) -> None:
        """Delete a version; its number is not given out again. Raises NotFound."""
        found = await self.subject(subject)

        def emptied(value: bytes | None) -> bytes | None:
            summary = decode_record(VersionSummary, value) if value is not None else None
            if summary is None or summary.deleted:
                raise _no_version(subject, version)
            return encode_record(_deleted(summary))

        def without_definition(value: bytes | None) -> bytes | None:
            if value is None:
                return None
            return encode_record(VersionRecord(_deleted(decode_record(VersionRecord, value).summary), b""))

        if not 0 < version <= VERSION_MAX:
            raise _no_version(subject, version)
        await rewrite(self._store, keys.schema_version_key(found.schema_id, version), emptied)
        await rewrite(self._store, keys.schema_definition_key(found.schema_id, version), without_definition)

    async def set_compatibility(self, subject: str, mode: CompatibilityMode) -> None:
        """Set what new versions have to keep; present versions are not checked again. Raises NotFound."""
        await self.subject(subject)

        def changed(value: bytes | None) -> bytes:
            if value is None:
                raise NotFound(f"subject {subject} does not exist")
            present = decode_record(Subject, value)
            return encode_record(Subject(present.name, present.schema_id, mode, present.created_ms))

        await rewrite(self._store, keys.subject_key(subject), changed)

    async def _find(self, subject: str) -> Subject | None:
        return await read_record(self._store, keys.subject_key(subject), Subject)

    async def _create(self, subject: str) -> Subject:
        """Create a subject, or return the one that another process created at the same moment."""
        if len((await self._store.list(keys.SUBJECTS)).entries) >= SUBJECTS_MAX:
            raise LimitExceeded("schema_subjects", f"the cluster has {SUBJECTS_MAX} subjects already")
        schema_id = await self._new_id()
        await self._store.put(keys.schema_id_key(schema_id), subject.encode(), expected_revision=0)
        created = Subject(subject, schema_id, CompatibilityMode.BACKWARD, self._now_ms())
        try:
            await self._store.put(keys.subject_key(subject), encode_record(created), expected_revision=0)
        except Conflict:
            await self._store.delete(keys.schema_id_key(schema_id))
            return await self.subject(subject)
        return created

    async def _new_id(self) -> int:
        taken = 0

        def next_id(value: bytes | None) -> bytes:
            nonlocal taken
            taken = 1 + (decode_record(LastId, value).schema_id if value is not None else 0)
            return encode_record(LastId(taken))

        await rewrite(self._store, keys.LAST_SCHEMA_ID, next_id)
        return taken

    async def _summaries(self, schema_id: int) -> list[VersionSummary]:
        """Return all versions in ascending order, also deleted ones."""
        return await read_records(self._store, keys.schema_versions_prefix(schema_id), VersionSummary)

    async def _version(self, subject: Subject, version: int) -> RegisteredSchema:
        key = keys.schema_definition_key(subject.schema_id, version)
        record = await read_record(self._store, key, VersionRecord) if 0 < version <= VERSION_MAX else None
        if record is None or record.summary.deleted:
            raise _no_version(subject.name, version)
        return RegisteredSchema(subject, record.summary, record.definition)

    async def _problems(
        self,
        subject: Subject,
        definition: Definition,
        mode: CompatibilityMode,
        summaries: Sequence[VersionSummary],
    ) -> list[str]:
        live = [summary.version for summary in summaries if not summary.deleted]
        if mode is CompatibilityMode.NONE or not live:
            return []
        stored: list[VersionRecord] = []
        if mode.transitive:
            listing = await self._store.list(keys.schema_definitions_prefix(subject.schema_id))
            stored += (decode_record(VersionRecord, entry.value) for entry in listing.entries)
        elif (
            latest := await self._store.get(keys.schema_definition_key(subject.schema_id, live[-1]))
        ) is not None:
            stored.append(decode_record(VersionRecord, latest.value))
        present = [each for each in stored if not each.summary.deleted and each.summary.version in set(live)]

        def compare() -> list[str]:
            versions = [
                (each.summary.version, parse_definition(each.summary.kind, each.definition))
                for each in present
            ]
            return incompatibilities(mode, definition, versions)

        return await _beside_the_loop(compare)

    async def _write(self, schema_id: int, record: VersionRecord) -> bool:
        """Write a version; return False if its number is taken, after seeing to it that all can see that."""
        version = record.summary.version
        key = keys.schema_definition_key(schema_id, version)
        written = True
        try:
            await self._store.put(key, encode_record(record), expected_revision=0)
        except Conflict:
            written = False
            entry = await self._store.get(key)
            if entry is None:
                return False
            record = decode_record(VersionRecord, entry.value)
        try:  # its writer may have died before this
            summary_key = keys.schema_version_key(schema_id, version)
            await self._store.put(summary_key, encode_record(record.summary), expected_revision=0)
        except Conflict:
            pass
        return written


def check_subject(name: str) -> str:
    """Return ``name`` if it can name a subject. Raises InvalidInput."""
    check_label(name, "subject")
    if len(name.encode(errors="replace")) > PART_BYTES_MAX:
        raise InvalidInput(f"the subject name is longer than {PART_BYTES_MAX} bytes in UTF-8")
    return name


async def parsed(schema: NewSchema) -> Definition:
    """Parse a new definition. Raises InvalidInput."""
    if len(schema.definition) > SCHEMA_BYTES_MAX:
        raise InvalidInput(f"the schema is larger than {SCHEMA_BYTES_MAX} bytes")
    return await _beside_the_loop(parse_definition, schema.kind, schema.definition)


async def _beside_the_loop(work: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Do what may take a second in the one thread for it, so that calls cannot take all of the processor."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, partial(work, *given, **named))


def fingerprint_of(definition: Definition) -> str:
    """Return what two definitions have in common that differ in layout only."""
    return "sha256:" + hashlib.sha256(definition.kind.encode() + b"\0" + definition.canonical).hexdigest()


def _check_notes(schema: NewSchema) -> None:
    if len(schema.description) > DESCRIPTION_CHARACTERS_MAX:
        raise InvalidInput(f"the description is longer than {DESCRIPTION_CHARACTERS_MAX} characters")
    if schema.created_by:
        check_label(schema.created_by, "creator's")
    if len(schema.tags) > TAGS_MAX or any(len(tag) > TAG_CHARACTERS_MAX for tag in schema.tags):
        raise InvalidInput(f"at most {TAGS_MAX} tags of {TAG_CHARACTERS_MAX} characters are allowed")


def _check_room(subject: str, summaries: Sequence[VersionSummary], size: int) -> None:
    if summaries and summaries[-1].version >= VERSIONS_MAX:
        raise LimitExceeded(
            "schema_versions",
            f"subject {subject} has had {VERSIONS_MAX} versions, with deleted ones: use another subject",
        )
    held = sum(summary.size for summary in summaries if not summary.deleted)
    if held + size > SUBJECT_BYTES_MAX:
        raise LimitExceeded(
            "schema_subject_bytes",
            f"the definitions of subject {subject} have {held} bytes of {SUBJECT_BYTES_MAX}: delete versions",
        )


def _deleted(summary: VersionSummary) -> VersionSummary:
    return VersionSummary(summary.version, summary.kind, summary.fingerprint, 0, deleted=True)


def _no_version(subject: str, version: int) -> NotFound:
    return NotFound(f"subject {subject} has no version {version}")
