from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import fastavro
import pytest

from danube_common.cluster.records import Topic
from danube_common.errors import SchemaViolation, Unavailable
from danube_common.model.json_schema import CHEAP_COST_MAX
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import Strategy
from danube_common.runtime.metrics import Metrics
from danube_common.schemas.compatibility import parse_definition
from danube_common.schemas.kinds import SchemaType, ValidationPolicy
from danube_common.schemas.registry import NewSchema, SchemaRegistry
from danube_common.schemas.topics import TopicSchemas, TopicSchemaView
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_gateway.publish.schema_checks import SchemaChecks
from danube_gateway.publish.schema_worker import SchemaWorker
from danube_gateway.publish.subject_checks import LATEST_S, VERSION_S, SchemaStamp, SubjectChecks
from danube_harness.memory.metadata import MemoryMetadata

TOPIC = Topic("/default/t", 7, "f0", Schema("", SchemaKind.BYTES), Strategy(), 0, 0)
FIELD = {"name": "a", "type": "int"}
AVRO: Any = {"type": "record", "name": "R", "fields": [FIELD]}
WIDER: Any = {**AVRO, "fields": [FIELD, {"name": "b", "type": "string", "default": ""}]}


def avro(schema: Any) -> NewSchema:
    return NewSchema(SchemaType.AVRO, json.dumps(schema).encode())


def written(schema: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()


class Scene:
    def __init__(self) -> None:
        self.store = MemoryMetadata()
        self.registry = SchemaRegistry(self.store, now_ms=lambda: 1)
        self.now = 100.0
        self.metrics = Metrics("gateway", "1")
        gateway_metrics = GatewayMetrics(self.metrics)
        self.quick = SchemaWorker()
        self.payload_checks = SchemaChecks(gateway_metrics, self.quick, SchemaWorker())
        self.view = TopicSchemaView()
        self._gateway_metrics = gateway_metrics
        self.checks = self._new_checks()

    def _new_checks(self) -> SubjectChecks:
        return SubjectChecks(
            self.view, self.registry, self.payload_checks, self._gateway_metrics, clock=lambda: self.now
        )

    async def open(self) -> None:
        self.view = await TopicSchemaView.open(self.store)
        self.checks = self._new_checks()

    async def close(self) -> None:
        await self.view.close()
        await self.payload_checks.close()

    async def configure(
        self, policy: ValidationPolicy, schema: NewSchema | None = None, *, payload_validation: bool = False
    ) -> SchemaStamp:
        """Register the schema (AVRO if none) as version 1, set it for the topic, and return its stamp."""
        done = await self.registry.register("orders", schema or avro(AVRO))
        schemas = TopicSchemas(self.store)
        await schemas.configure(TOPIC, done.subject, policy, payload_validation=payload_validation)
        wanted = await schemas.get(TOPIC)
        async with asyncio.timeout(10):
            while self.view.get(TOPIC) != wanted:  # noqa: ASYNC110 - the view has no event to wait for
                await asyncio.sleep(0.01)
        return SchemaStamp(done.subject.schema_id, 1)

    def failures(self) -> float:
        text = self.metrics.render().decode()
        lines = [each for each in text.splitlines() if "schema_validation_failures_total{" in each]
        return sum(float(each.rpartition(" ")[2]) for each in lines)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await scene.open()
    yield scene
    await scene.close()


async def test_a_topic_without_a_subject_or_with_the_policy_none_takes_all(scene: Scene) -> None:
    assert not scene.checks.concern(TOPIC)
    await scene.checks.check(TOPIC, b"?", SchemaStamp(99, 1))
    await scene.configure(ValidationPolicy.NONE)
    assert not scene.checks.concern(TOPIC)
    await scene.checks.check(TOPIC, b"?", SchemaStamp(99, 1))


async def test_enforce_takes_the_subject_s_versions_only(scene: Scene) -> None:
    stamp = await scene.configure(ValidationPolicy.ENFORCE)
    assert scene.checks.concern(TOPIC)
    await scene.checks.check(TOPIC, b"any bytes", stamp)
    for wrong, reason in (
        (SchemaStamp(stamp.schema_id + 1, 1), "orders with the id"),
        (SchemaStamp(stamp.schema_id, 2), "no version 2"),
        (None, "no schema id"),
    ):
        with pytest.raises(SchemaViolation, match=reason):
            await scene.checks.check(TOPIC, b"any bytes", wrong)
    assert scene.failures() == 3


async def test_payloads_are_checked_with_the_version_that_the_message_names(scene: Scene) -> None:
    stamp = await scene.configure(ValidationPolicy.ENFORCE, payload_validation=True)
    await scene.registry.register("orders", avro(WIDER))
    first, second = written(AVRO, {"a": 1}), written(WIDER, {"a": 1, "b": "x"})
    await scene.checks.check(TOPIC, first, stamp)
    await scene.checks.check(TOPIC, second, SchemaStamp(stamp.schema_id, 2))
    await scene.checks.check(TOPIC, second, None)
    for payload, given in ((second, stamp), (first, None), (first, SchemaStamp(stamp.schema_id, 2))):
        with pytest.raises(SchemaViolation, match="Avro"):
            await scene.checks.check(TOPIC, payload, given)


async def test_warn_publishes_what_does_not_fit_and_counts_it(scene: Scene) -> None:
    stamp = await scene.configure(ValidationPolicy.WARN, payload_validation=True)
    await scene.checks.check(TOPIC, b"\xff", stamp)
    await scene.checks.check(TOPIC, b"?", SchemaStamp(99, 1))
    scene.store.reachable = False
    await scene.checks.check(TOPIC, b"?", SchemaStamp(stamp.schema_id, 2))
    assert scene.failures() == 3


async def test_known_versions_need_no_store_and_unknown_ones_are_unavailable_without_it(scene: Scene) -> None:
    stamp = await scene.configure(ValidationPolicy.ENFORCE)
    await scene.checks.check(TOPIC, b"", stamp)
    scene.store.reachable = False
    await scene.checks.check(TOPIC, b"", stamp)
    with pytest.raises(Unavailable):
        await scene.checks.check(TOPIC, b"", SchemaStamp(stamp.schema_id, 2))


async def test_a_deleted_version_and_a_new_latest_one_are_noticed_in_time(scene: Scene) -> None:
    stamp = await scene.configure(ValidationPolicy.ENFORCE, payload_validation=True)
    payload = written(AVRO, {"a": 1})
    await scene.checks.check(TOPIC, payload, stamp)
    await scene.checks.check(TOPIC, payload, None)
    await scene.registry.register("orders", avro(WIDER))
    await scene.registry.delete_version("orders", 1)
    scene.now += LATEST_S
    with pytest.raises(SchemaViolation):
        await scene.checks.check(TOPIC, payload, None)
    scene.now += VERSION_S
    with pytest.raises(SchemaViolation, match="no version 1"):
        await scene.checks.check(TOPIC, payload, stamp)


TREE = {"type": "record", "name": "T", "fields": [{"name": "inner", "type": {"type": "array", "items": "T"}}]}
COSTLY = [
    (SchemaType.AVRO, json.dumps(TREE), b"\x02" * 20 + b"\x00" * 21, b"\x02" * 20),
    (SchemaType.JSON_SCHEMA, '{"pattern": "(?=a)a"}', b'"a"', b'"b"'),
    (
        SchemaType.PROTOBUF,
        'syntax = "proto3"; message A { bytes x = 1; }',
        b"\x0a\xe0\xd4\x03" + b"x" * 60_000,
        b"\x0a\xe0\xd4\x03" + b"x" * 59_999,
    ),
]


@pytest.mark.parametrize(("kind", "definition", "fits", "broken"), COSTLY)
async def test_costly_checks_of_every_type_run_in_a_process(
    scene: Scene, kind: SchemaType, definition: str, fits: bytes, broken: bytes
) -> None:
    assert parse_definition(kind, definition.encode()).payload_check().cost(fits) > CHEAP_COST_MAX
    schema = NewSchema(kind, definition.encode())
    await scene.configure(ValidationPolicy.ENFORCE, schema, payload_validation=True)
    await scene.checks.check(TOPIC, fits, None)
    assert scene.quick.pid is not None
    with pytest.raises(SchemaViolation, match="payload"):
        await scene.checks.check(TOPIC, broken, None)
