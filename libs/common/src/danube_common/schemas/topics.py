"""The subjects of topics, and the policy by which messages are validated."""

from __future__ import annotations

from typing import Final, Self

from danube_common.cluster import keys
from danube_common.cluster.records import Topic, decode_record, encode_record
from danube_common.errors import NotFound, Refused
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, MetadataStore
from danube_common.metadata.rewrite import rewrite
from danube_common.model.names import TopicName
from danube_common.schemas.kinds import ValidationPolicy
from danube_common.schemas.records import Subject, TopicSchema

CATCH_UP_TIMEOUT_S: Final = 5.0


class TopicSchemas:
    """Reads and changes the subjects of topics in the metadata store itself.

    The partitions of a topic have its subject: what is set for one of them is set for all. A topic that is
    deleted and created again has no subject, whatever was set for the one before.
    """

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    async def get(self, topic: Topic) -> TopicSchema | None:
        """Return the subject of a topic, or None."""
        entry = await self._store.get(_key(topic))
        return _of(topic, entry.value if entry else None)

    async def configure(
        self, topic: Topic, subject: Subject, policy: ValidationPolicy, *, payload_validation: bool
    ) -> None:
        """Set the subject and the policy of a topic, in place of those it had."""

        def configured(value: bytes | None) -> bytes:
            present = _of(topic, value)
            return encode_record(
                TopicSchema(
                    *_holder(topic),
                    subject.name,
                    subject.schema_id,
                    policy,
                    payload_validation,
                    replaces_own=present is not None and present.replaces_own,
                )
            )

        await rewrite(self._store, _key(topic), configured)

    async def replace_own(self, topic: Topic, subject: Subject) -> None:
        """Have a subject in the place of the schema that the topic was created with.

        Raises Refused if the topic has another subject.
        """
        wanted = TopicSchema(
            *_holder(topic),
            subject.name,
            subject.schema_id,
            ValidationPolicy.ENFORCE,
            payload_validation=True,
            replaces_own=True,
        )

        def replaced(value: bytes | None) -> bytes | None:
            present = _of(topic, value)
            if present is None:
                return encode_record(wanted)
            _check_same(topic, present, subject)
            return None

        await rewrite(self._store, _key(topic), replaced)

    async def bind(self, topic: Topic, subject: Subject) -> TopicSchema:
        """Set the subject of a topic that has none, as its first producer does; return what is set then.

        Raises Refused if the topic has another subject.
        """
        wanted = TopicSchema(*_holder(topic), subject.name, subject.schema_id)
        found = wanted

        def bound(value: bytes | None) -> bytes | None:
            nonlocal found
            present = _of(topic, value)
            if present is None:
                found = wanted
                return encode_record(wanted)
            _check_same(topic, present, subject)
            found = present
            return None

        await rewrite(self._store, _key(topic), bound)
        return found

    async def set_policy(self, topic: Topic, policy: ValidationPolicy, *, payload_validation: bool) -> None:
        """Change how messages are validated. Raises NotFound if the topic has no subject."""

        def changed(value: bytes | None) -> bytes:
            present = _of(topic, value)
            if present is None:
                raise NotFound(f"topic {topic.name} has no schema subject")
            return encode_record(
                TopicSchema(
                    *_holder(topic),
                    present.subject,
                    present.schema_id,
                    policy,
                    payload_validation,
                    present.replaces_own,
                )
            )

        await rewrite(self._store, _key(topic), changed)


class TopicSchemaView:
    """A process's live view of the subjects of all topics."""

    def __init__(self) -> None:
        self._by_key: dict[str, TopicSchema] = {}
        self._by_topic: dict[int, TopicSchema] = {}
        self._mirror: Mirror | None = None
        self._store: MetadataStore | None = None

    @classmethod
    async def open(cls, store: MetadataStore) -> Self:
        """Return once everything stored so far was read. Raises MetadataUnavailable."""
        self = cls()
        self._store = store
        self._mirror = await Mirror.open(store, keys.TOPIC_SCHEMAS, self._changed)
        return self

    async def close(self) -> None:
        """Stop following the store."""
        if self._mirror is not None:
            await self._mirror.close()

    def get(self, topic: Topic) -> TopicSchema | None:
        """Return the subject of a topic, or None."""
        return self._by_topic.get(topic.partitioned_id or topic.topic_id)

    async def see(self, topic: Topic) -> None:
        """Wait until the view holds what is stored of a topic now. Raises MetadataUnavailable."""
        if self._store is not None and self._mirror is not None:
            entry = await self._store.get(_key(topic))
            if entry is not None:
                await self._mirror.catch_up(entry.revision, CATCH_UP_TIMEOUT_S)

    def _changed(self, change: Change) -> None:
        before = self._by_key.pop(change.key, None)
        if before is not None:
            self._by_topic.pop(before.topic_id, None)
        if change.value is not None:
            after = decode_record(TopicSchema, change.value)
            self._by_key[change.key] = self._by_topic[after.topic_id] = after


def _check_same(topic: Topic, present: TopicSchema, subject: Subject) -> None:
    """Raise Refused if a topic has another subject."""
    if present.schema_id != subject.schema_id:
        raise Refused(f"topic {topic.name} has the schema subject {present.subject}, not {subject.name}")


def _of(topic: Topic, value: bytes | None) -> TopicSchema | None:
    found = decode_record(TopicSchema, value) if value is not None else None
    return found if found is not None and found.topic_id == _holder(topic)[1] else None


def _holder(topic: Topic) -> tuple[str, int]:
    """Return the name and id of what has the topic's subject: the topic, or the one it is a partition of."""
    base = topic.topic_name.partition_of if topic.partitioned_id else None
    return (topic.name, topic.topic_id) if base is None else (str(base), topic.partitioned_id)


def _key(topic: Topic) -> str:
    return keys.topic_schema_key(TopicName.parse(_holder(topic)[0]))
