"""What the registry keeps in the metadata store, under the keys of `danube_common.cluster.keys`.

A version never changes. Its summary is written after its definition, and the version exists once the summary
does. A deleted version leaves both of its keys behind, without a definition: its number is not given out
again, as messages may carry it.
"""

from __future__ import annotations

import msgspec

from danube_common.schemas.kinds import CompatibilityMode, SchemaType, ValidationPolicy


class LastId(msgspec.Struct, frozen=True):
    """The highest schema id that was given out."""

    schema_id: int


class Subject(msgspec.Struct, frozen=True):
    """A subject. All its versions share the id; ``name`` is also what an id refers to."""

    name: str
    schema_id: int
    compatibility: CompatibilityMode
    created_ms: int


class VersionSummary(msgspec.Struct, frozen=True):
    """A version without its definition.

    Attributes:
        version: from 1.
        kind: of the definition.
        fingerprint: ``sha256:`` and hexadecimal digits; equal for definitions that differ in layout only.
        size: bytes of the definition.
        description, created_by, tags: as the creator gave them, for people.
        created_ms: wall clock, for people.
        deleted: whether only the number is left.
    """

    version: int
    kind: SchemaType
    fingerprint: str
    size: int
    description: str = ""
    created_by: str = ""
    tags: tuple[str, ...] = ()
    created_ms: int = 0
    deleted: bool = False


class VersionRecord(msgspec.Struct, frozen=True):
    """A version with its definition, in base64; empty once the version is deleted."""

    summary: VersionSummary
    definition: bytes


class TopicSchema(msgspec.Struct, frozen=True):
    """The subject of a topic or partition, and how its messages are validated.

    Attributes:
        topic_id: the topic that this was set for; a topic created again under the name has none.
        policy: what happens to a message whose schema is not the subject's.
        payload_validation: whether payloads are checked as well.
        replaces_own: whether the subject has the place of the schema that the topic was created with: that
            one is a version of it, and is enforced no more.
    """

    topic: str
    topic_id: int
    subject: str
    schema_id: int
    policy: ValidationPolicy = ValidationPolicy.NONE
    payload_validation: bool = False
    replaces_own: bool = False
