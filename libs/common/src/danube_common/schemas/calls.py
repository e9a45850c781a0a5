"""``danube_schema.SchemaRegistry``: its calls, for every port that serves them.

The ports decode requests, encode answers and map errors to statuses. Here a call takes any object with the
fields of its request, and returns the fields of its answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from danube_common.cluster.records import Topic
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidInput
from danube_common.metadata.port import MetadataStore
from danube_common.model.names import TopicName
from danube_common.schemas.kinds import ValidationPolicy, compatibility_mode, schema_type, validation_policy
from danube_common.schemas.records import Subject, VersionSummary
from danube_common.schemas.registry import NewSchema, RegisteredSchema, SchemaRegistry
from danube_common.schemas.topics import TopicSchemas

SERVICE: Final = "danube_schema.SchemaRegistry"

Fields = dict[str, Any]


class RegistryCalls:
    """The calls by name. They raise InvalidInput, NotFound, Refused, LimitExceeded and Unavailable.

    Attributes:
        registry: what the calls are made to.
    """

    def __init__(self, store: MetadataStore, topics: Topics, *, now_ms: Callable[[], int]) -> None:
        self.registry = SchemaRegistry(store, now_ms=now_ms)
        self._topics = topics
        self._topic_schemas = TopicSchemas(store)

    def by_name(self) -> Mapping[str, Callable[[Any], Awaitable[Fields]]]:
        """Return the calls by the names of the service's methods."""
        return {
            "RegisterSchema": self.register,
            "GetSchema": self.get,
            "GetLatestSchema": self.latest,
            "ListVersions": self.versions,
            "CheckCompatibility": self.check,
            "DeleteSchemaVersion": self.delete_version,
            "SetCompatibilityMode": self.set_compatibility,
            "ConfigureTopicSchema": self.configure_topic,
            "UpdateTopicValidationPolicy": self.set_topic_policy,
            "GetTopicSchemaConfig": self.topic,
            "ListSubjects": self.subjects,
        }

    async def register(self, request: Any) -> Fields:
        """Add a version to a subject, or find the one that is the same."""
        schema = NewSchema(
            schema_type(request.schema_type),
            request.schema_definition,
            request.description,
            request.created_by,
            tuple(request.tags),
        )
        done = await self.registry.register(request.subject, schema)
        return {
            "schema_id": done.subject.schema_id,
            "version": done.version.version,
            "is_new_version": done.is_new,
            "fingerprint": done.version.fingerprint,
        }

    async def get(self, request: Any) -> Fields:
        """Return a version by the subject's id."""
        version = request.version if request.HasField("version") else None
        return _schema(await self.registry.get(request.schema_id, version))

    async def latest(self, request: Any) -> Fields:
        """Return the latest version of a subject."""
        return _schema(await self.registry.resolve(request.subject))

    async def versions(self, request: Any) -> Fields:
        """List the versions of a subject in ascending order."""
        subject = await self.registry.subject(request.subject)
        versions = await self.registry.versions(request.subject)
        return {"versions": [_version(subject, each) for each in versions]}

    async def check(self, request: Any) -> Fields:
        """Tell whether a schema can become the next version, and why not."""
        schema = NewSchema(schema_type(request.schema_type), request.new_schema_definition)
        mode = (
            compatibility_mode(request.compatibility_mode) if request.HasField("compatibility_mode") else None
        )
        problems = await self.registry.check(request.subject, schema, mode)
        return {"is_compatible": not problems, "errors": problems}

    async def delete_version(self, request: Any) -> Fields:
        """Delete a version."""
        await self.registry.delete_version(request.subject, request.version)
        return _success(f"version {request.version} of subject {request.subject} is deleted")

    async def set_compatibility(self, request: Any) -> Fields:
        """Set the compatibility mode of a subject."""
        mode = compatibility_mode(request.compatibility_mode)
        await self.registry.set_compatibility(request.subject, mode)
        return _success(f"new versions of subject {request.subject} are checked by the mode {mode}")

    async def configure_topic(self, request: Any) -> Fields:
        """Set the subject of a topic, or of all its partitions, and how messages are validated."""
        policy = _policy(request)
        topic = await self._named(request.topic_name)
        subject = await self.registry.subject(request.schema_subject)
        await self._topic_schemas.configure(
            topic, subject, policy, payload_validation=request.enable_payload_validation
        )
        return _success(f"topic {request.topic_name} has the subject {subject.name} and the policy {policy}")

    async def set_topic_policy(self, request: Any) -> Fields:
        """Set how the messages of a topic, or of all its partitions, are validated."""
        policy = _policy(request)
        topic = await self._named(request.topic_name)
        await self._topic_schemas.set_policy(
            topic, policy, payload_validation=request.enable_payload_validation
        )
        return _success(f"topic {request.topic_name} has the policy {policy}")

    async def topic(self, request: Any) -> Fields:
        """Return the subject and the policy of a topic or of all its partitions."""
        found = await self._topic_schemas.get(await self._named(request.topic_name))
        if found is None:
            return {"validation_policy": str(ValidationPolicy.NONE)}
        return {
            "schema_subject": found.subject,
            "schema_id": found.schema_id,
            "validation_policy": str(found.policy),
            "enable_payload_validation": found.payload_validation,
        }

    async def subjects(self, _request: Any) -> Fields:
        """List all subjects; one whose versions are all deleted has the version 0."""
        return {
            "subjects": [
                {
                    "subject": subject.name,
                    "schema_id": subject.schema_id,
                    "compatibility_mode": str(subject.compatibility),
                    "schema_type": str(latest.kind) if latest else "",
                    "latest_version": latest.version if latest else 0,
                    "tags": latest.tags if latest else (),
                }
                for subject, latest in await self.registry.subjects()
            ]
        }

    async def _named(self, name: str) -> Topic:
        """Return the topic, or one of its partitions, which have one subject."""
        return (await self._topics.named(TopicName.parse(name)))[0]


def _policy(request: Any) -> ValidationPolicy:
    policy = validation_policy(request.validation_policy)
    if request.enable_payload_validation and policy is ValidationPolicy.NONE:
        raise InvalidInput("payloads are validated only with the policy warn or enforce")
    return policy


def _schema(found: RegisteredSchema) -> Fields:
    return {
        **_version(found.subject, found.version),
        "subject": found.subject.name,
        "schema_type": str(found.version.kind),
        "schema_definition": found.definition,
        "tags": found.version.tags,
        "compatibility_mode": str(found.subject.compatibility),
    }


def _version(subject: Subject, version: VersionSummary) -> Fields:
    return {
        "version": version.version,
        "created_at": version.created_ms // 1000,
        "created_by": version.created_by,
        "description": version.description,
        "fingerprint": version.fingerprint,
        "schema_id": subject.schema_id,
    }


def _success(message: str) -> Fields:
    return {"success": True, "message": message}
