"""Lets the JSON Schema of a topic that v0.2 clients created evolve, as versions of a subject."""

from __future__ import annotations

import asyncio

from danube_common.cluster.records import Topic
from danube_common.errors import InvalidInput, Refused
from danube_common.metadata.port import MetadataStore
from danube_common.model.schema import Schema
from danube_common.schemas.compatibility import incompatibilities, parse_definition
from danube_common.schemas.kinds import CompatibilityMode, SchemaType
from danube_common.schemas.registry import NewSchema, SchemaRegistry
from danube_common.schemas.topics import TopicSchemas
from danube_gateway.publish.subject_checks import SubjectChecks


class SchemaEvolution:
    """A topic keeps the schema it was created with until a producer brings another one that is compatible.

    Then both are versions of a subject, which is enforced instead: its latest version is. The subject belongs
    to the topic's id, and is made at that moment only: most topics never need one.
    """

    def __init__(self, store: MetadataStore, registry: SchemaRegistry, subjects: SubjectChecks) -> None:
        self._registry = registry
        self._topic_schemas = TopicSchemas(store)
        self._subjects = subjects

    async def evolve(self, topic: Topic, schema: Schema) -> None:
        """Return when messages of the topic are checked with a JSON Schema that its own differs from.

        Raises:
            InvalidInput: the schema is not compatible, or the topic has a subject that somebody chose.
            LimitExceeded: too many subjects or versions, or too large to compare.
        """
        present = await self._topic_schemas.get(topic)
        if present is not None and not present.replaces_own:
            raise InvalidInput(
                f"topic {topic.name} exists with another JSON schema, and has the schema subject "
                f"{present.subject}: register versions there"
            )
        try:
            if present is None:
                await _check_compatible(topic.schema, schema)
                subject = f"{topic.name} {topic.partitioned_id or topic.topic_id:x}"
                await self._registry.register(subject, _version(topic.schema))
                registered = await self._registry.register(subject, _version(schema))
                await self._topic_schemas.replace_own(topic, registered.subject)
            else:
                await self._registry.register(present.subject, _version(schema))
        except Refused as error:
            raise InvalidInput(
                f"topic {topic.name} exists with another JSON schema that cannot become this one: {error}"
            ) from None
        await self._subjects.see(topic)

    async def schema_of(self, topic: Topic) -> Schema:
        """Return the schema that messages are checked with. Raises NotFound if every version was deleted."""
        present = await self._topic_schemas.get(topic)
        if present is None or not present.replaces_own:
            return topic.schema
        latest = await self._registry.resolve(present.subject)
        return Schema(topic.schema.name, topic.schema.kind, latest.definition.decode())


def _version(schema: Schema) -> NewSchema:
    return NewSchema(SchemaType.JSON_SCHEMA, schema.definition.encode(), "of v0.2 producers")


async def _check_compatible(present: Schema, wanted: Schema) -> None:
    """Raise Refused if the wanted schema does not read what the present one wrote."""

    def compared() -> list[str]:
        old, new = (
            parse_definition(SchemaType.JSON_SCHEMA, each.definition.encode()) for each in (present, wanted)
        )
        return incompatibilities(CompatibilityMode.BACKWARD, new, [(1, old)])

    if problems := await asyncio.to_thread(compared):
        raise Refused("; ".join(problems))
