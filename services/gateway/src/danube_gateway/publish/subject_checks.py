"""Validation of messages against the schema subject of their topic, by the topic's policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import structlog

from danube_common.cluster.records import Topic
from danube_common.errors import InvalidInput, LimitExceeded, NotFound, SchemaViolation, Unavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.schema import PayloadCheck
from danube_common.schemas.compatibility import parse_definition
from danube_common.schemas.kinds import ValidationPolicy
from danube_common.schemas.records import TopicSchema
from danube_common.schemas.registry import RegisteredSchema, SchemaRegistry
from danube_common.schemas.topics import TopicSchemaView
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_gateway.publish.schema_checks import SchemaChecks

VERSIONS_MAX: Final = 256
"""Compiled versions that a gateway keeps; beyond it the oldest is forgotten."""
VERSION_S: Final = 30.0
"""A version that was deleted is still accepted for so long."""
LATEST_S: Final = 1.0
"""Messages without a schema id are checked with a version that was the latest at most so long ago."""
WARNING_S: Final = 10.0
"""Messages that do not fit under the policy warn are logged once in this time; all are counted."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class SchemaStamp(NamedTuple):
    """What a message says of its schema: the subject's id and the version, if any."""

    schema_id: int
    version: int | None


@dataclass(frozen=True, slots=True)
class _Version:
    schema: RegisteredSchema
    check: PayloadCheck
    expires_at: float


class SubjectChecks:
    """Validates messages of topics whose policy is warn or enforce."""

    def __init__(
        self,
        view: TopicSchemaView,
        registry: SchemaRegistry,
        checks: SchemaChecks,
        metrics: GatewayMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view = view
        self._registry = registry
        self._checks = checks
        self._metrics = metrics
        self._clock = clock
        self._versions: dict[tuple[int, int | None], _Version] = {}
        self._silent_until = 0.0

    @classmethod
    async def open(
        cls, store: MetadataStore, registry: SchemaRegistry, checks: SchemaChecks, metrics: GatewayMetrics
    ) -> Self:
        """Return once the subjects of all topics are known. Raises MetadataUnavailable."""
        return cls(await TopicSchemaView.open(store), registry, checks, metrics)

    async def close(self) -> None:
        """Stop following the subjects of topics."""
        await self._view.close()

    def find(self, topic: Topic) -> TopicSchema | None:
        """Return the topic's subject and its policy, if it has one."""
        return self._view.get(topic)

    def concern(self, topic: Topic) -> bool:
        """Return whether messages of the topic have to be validated."""
        found = self._view.get(topic)
        return found is not None and found.policy is not ValidationPolicy.NONE

    def subject(self, topic: Topic) -> str:
        """Return the name of the topic's subject; empty if it has none."""
        found = self._view.get(topic)
        return found.subject if found is not None else ""

    def replaces_own(self, topic: Topic) -> bool:
        """Return whether the subject has the place of the schema that the topic was created with."""
        found = self._view.get(topic)
        return found is not None and found.replaces_own

    async def see(self, topic: Topic) -> None:
        """Validate by the topic's subject and its latest version of now. Raises MetadataUnavailable."""
        await self._view.see(topic)
        if (found := self._view.get(topic)) is not None:
            self._versions.pop((found.schema_id, None), None)

    async def check(self, topic: Topic, payload: bytes, stamp: SchemaStamp | None) -> None:
        """Return when the message may be published.

        A message with a stamp must name the topic's subject and one of its versions; with payload validation
        its payload is checked with that version. One without a stamp, as clients of v0.2 send it, is checked
        with the latest version; without payload validation it does not fit.

        Raises:
            SchemaViolation: the message does not fit, and the policy is enforce.
            LimitExceeded: the check took too long, or too much waits for a check; the policy is enforce.
            Unavailable: the registry or the process of the check does not answer; the policy is enforce.
        """
        found = self._view.get(topic)
        if found is None or found.policy is ValidationPolicy.NONE:
            return
        self._metrics.schema_validations.labels(topic.name).inc()
        try:
            await self._validate(topic, found, payload, stamp)
        except (SchemaViolation, LimitExceeded, Unavailable) as error:
            self._metrics.schema_validation_failures.labels(topic.name).inc()
            if found.policy is ValidationPolicy.ENFORCE:
                raise
            if self._clock() >= self._silent_until:
                self._silent_until = self._clock() + WARNING_S
                _log.warning("schema_validation_failed", topic=topic.name, reason=str(error))

    async def _validate(
        self, topic: Topic, found: TopicSchema, payload: bytes, stamp: SchemaStamp | None
    ) -> None:
        if stamp is None and not found.payload_validation:
            raise SchemaViolation(
                f"the message has no schema id: topic {topic.name} has the subject {found.subject}"
            )
        if stamp is not None and stamp.schema_id != found.schema_id:
            raise SchemaViolation(
                f"the message has the schema id {stamp.schema_id}: topic {topic.name} has the subject "
                f"{found.subject} with the id {found.schema_id}"
            )
        version = await self._version(found, stamp.version if stamp else None)
        if found.payload_validation:
            await self._checks.check(topic, version.check, payload, version.schema)

    async def _version(self, found: TopicSchema, version: int | None) -> _Version:
        key = (found.schema_id, version)
        known = self._versions.get(key)
        if known is not None and self._clock() < known.expires_at:
            return known
        try:
            schema = await self._registry.resolve(found.subject, pinned=version)
            definition = await asyncio.to_thread(parse_definition, schema.version.kind, schema.definition)
        except (InvalidInput, NotFound) as error:
            raise SchemaViolation(f"the message cannot be validated: {error}") from None
        lasts_s = LATEST_S if version is None else VERSION_S
        self._versions.pop(key, None)
        if len(self._versions) >= VERSIONS_MAX:
            del self._versions[next(iter(self._versions))]
        loaded = _Version(schema, definition.payload_check(), self._clock() + lasts_s)
        self._versions[key] = loaded
        return loaded
