"""`danube_schema.SchemaRegistry`: the same on the client port and the admin port, over gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import uuid4

import grpc.aio
import pytest
import pytest_asyncio
from tests.conformance.client import DEADLINE_S, Admin, Client, Producer, Refusal, new_topic, producer_request

from danube_harness.platforms.standalone import Platform
from danube_proto import danube_schema_pb2 as wire

AVRO_1 = b'{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}'
AVRO_2 = (
    b'{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"},'
    b' {"name": "b", "type": "string", "default": ""}]}'
)
AVRO_BROKEN = b'{"type": "record", "name": "R", "fields": [{"name": "c", "type": "string"}]}'
JSON_1 = json.dumps(
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
)
PROTO_1 = 'syntax = "proto3"; message R { int32 a = 1; }'


class Registry:
    """The calls of one port."""

    def __init__(self, addr: str) -> None:
        self._channel = grpc.aio.insecure_channel(addr, options=[("grpc.use_local_subchannel_pool", 1)])

    async def close(self) -> None:
        await self._channel.close(None)

    async def __call__(self, method: str, **fields: Any) -> Any:
        described = wire.DESCRIPTOR.services_by_name["SchemaRegistry"].methods_by_name[method]
        assert described.input_type is not None
        assert described.output_type is not None
        request = getattr(wire, described.input_type.name)(**fields)
        answer = getattr(wire, described.output_type.name)
        call = cast(
            "grpc.aio.UnaryUnaryMultiCallable[bytes, Any]",
            self._channel.unary_unary(f"/danube_schema.SchemaRegistry/{method}", None, answer.FromString),
        )
        return await call(request.SerializeToString(), timeout=DEADLINE_S)

    async def register(self, subject: str, definition: bytes | str, kind: str = "avro", **more: Any) -> Any:
        data = definition.encode() if isinstance(definition, str) else definition
        return await self("RegisterSchema", subject=subject, schema_type=kind, schema_definition=data, **more)

    async def refused(self, method: str, **fields: Any) -> tuple[str, str]:
        """The code and the message of a call that must be refused."""
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await self(method, **fields)
        return refusal.value.code().name, refusal.value.details() or ""


@pytest_asyncio.fixture(params=["client port", "admin port"])
async def registry(request: pytest.FixtureRequest, platform: Platform) -> AsyncIterator[Registry]:
    addr = platform.gateway_addr if request.param == "client port" else platform.admin_addr
    connected = Registry(addr)
    yield connected
    await connected.close()


@pytest.fixture
def subject() -> str:
    return f"subject-{uuid4().hex[:12]}"


async def test_a_registered_schema_is_returned_as_it_was_given(registry: Registry, subject: str) -> None:
    done = await registry.register(
        subject, AVRO_1, "AVRO", description="orders", created_by="ann", tags=["x", "y"]
    )
    assert (done.version, done.is_new_version) == (1, True)
    assert 0 < done.schema_id < 1 << 63
    latest = await registry("GetLatestSchema", subject=subject)
    assert latest.schema_definition == AVRO_1
    assert (latest.subject, latest.schema_type, latest.compatibility_mode) == (subject, "avro", "backward")
    assert (latest.description, latest.created_by, list(latest.tags)) == ("orders", "ann", ["x", "y"])
    assert latest.fingerprint == done.fingerprint
    assert latest.created_at > 1_600_000_000
    assert await registry("GetSchema", schema_id=done.schema_id) == latest
    assert await registry("GetSchema", schema_id=done.schema_id, version=1) == latest


@pytest.mark.parametrize(
    ("kind", "definition"),
    [
        ("bytes", ""),
        ("string", "a name"),
        ("number", "a price"),
        ("json_schema", JSON_1),
        ("protobuf", PROTO_1),
    ],
)
async def test_every_type_of_schema_is_taken(
    registry: Registry, subject: str, kind: str, definition: str
) -> None:
    done = await registry.register(subject, definition, kind)
    found = await registry("GetSchema", schema_id=done.schema_id)
    assert (found.schema_type, found.schema_definition) == (kind, definition.encode())


async def test_what_one_port_registered_every_other_tells(platform: Platform, subject: str) -> None:
    addrs = [*platform.gateway_addrs, platform.admin_addr]
    ports = [Registry(addr) for addr in addrs]
    for number, port in enumerate(ports):
        await port.register(subject, "x" * number, "string")
        for other in ports:
            listed = await other("ListVersions", subject=subject)
            assert [each.version for each in listed.versions] == list(range(1, number + 2))
    for port in ports:
        await port.close()


async def test_versions_follow_the_compatibility_mode(registry: Registry, subject: str) -> None:
    first = await registry.register(subject, AVRO_1)
    second = await registry.register(subject, AVRO_2)
    assert (second.schema_id, second.version) == (first.schema_id, 2)
    again = await registry.register(subject, AVRO_1)
    assert (again.version, again.is_new_version) == (1, False)
    code, message = await registry.refused(
        "RegisterSchema", subject=subject, schema_type="avro", schema_definition=AVRO_BROKEN
    )
    assert code == "FAILED_PRECONDITION"
    assert "R" in message
    assert len(message) <= 300
    checked = await registry(
        "CheckCompatibility", subject=subject, schema_type="avro", new_schema_definition=AVRO_BROKEN
    )
    assert not checked.is_compatible
    assert "no default" in checked.errors[0]
    assert (await registry("SetCompatibilityMode", subject=subject, compatibility_mode="NONE")).success
    assert (await registry.register(subject, AVRO_BROKEN)).version == 3
    tried = await registry(
        "CheckCompatibility",
        subject=subject,
        schema_type="avro",
        new_schema_definition=AVRO_1,
        compatibility_mode="full_transitive",
    )
    assert not tried.is_compatible


async def test_a_deleted_version_is_gone_at_every_port(
    registry: Registry, platform: Platform, subject: str
) -> None:
    done = await registry.register(subject, "1", "string")
    await registry.register(subject, "2", "string")
    assert (await registry("DeleteSchemaVersion", subject=subject, version=2)).success
    other = Registry(platform.admin_addr)
    assert (await other("GetLatestSchema", subject=subject)).version == 1
    assert (await other.refused("GetSchema", schema_id=done.schema_id, version=2))[0] == "NOT_FOUND"
    await other.close()
    code, _ = await registry.refused("DeleteSchemaVersion", subject=subject, version=2)
    assert code == "NOT_FOUND"


async def test_subjects_are_listed_with_their_latest_version(registry: Registry, subject: str) -> None:
    done = await registry.register(subject, AVRO_1, tags=["x"])
    await registry.register(subject, AVRO_2, tags=["y"])
    (found,) = [each for each in (await registry("ListSubjects")).subjects if each.subject == subject]
    assert (found.schema_type, found.latest_version, found.schema_id) == ("avro", 2, done.schema_id)
    assert (found.compatibility_mode, list(found.tags)) == ("backward", ["y"])


UNKNOWN_SUBJECT = {"subject": "no-such-subject"}
UNKNOWN_TOPIC = {"topic_name": "/default/no_such_topic"}
REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("RegisterSchema", {"schema_type": "avro"}, "INVALID_ARGUMENT"),
    ("RegisterSchema", {"subject": "s", "schema_type": "xml"}, "INVALID_ARGUMENT"),
    (
        "RegisterSchema",
        {"subject": "s", "schema_type": "avro", "schema_definition": b"{"},
        "INVALID_ARGUMENT",
    ),
    (
        "RegisterSchema",
        {"subject": "s", "schema_type": "bytes", "schema_definition": b"x" * 300_000},
        "INVALID_ARGUMENT",
    ),
    ("GetSchema", {"schema_id": (1 << 64) - 1}, "NOT_FOUND"),
    ("GetSchema", {}, "NOT_FOUND"),
    ("GetLatestSchema", UNKNOWN_SUBJECT, "NOT_FOUND"),
    ("ListVersions", UNKNOWN_SUBJECT, "NOT_FOUND"),
    ("CheckCompatibility", {**UNKNOWN_SUBJECT, "schema_type": "string"}, "NOT_FOUND"),
    ("DeleteSchemaVersion", {**UNKNOWN_SUBJECT, "version": 1}, "NOT_FOUND"),
    ("SetCompatibilityMode", {**UNKNOWN_SUBJECT, "compatibility_mode": "full"}, "NOT_FOUND"),
    ("SetCompatibilityMode", {"subject": "s", "compatibility_mode": "sideways"}, "INVALID_ARGUMENT"),
    ("ConfigureTopicSchema", {"topic_name": "a", "validation_policy": "none"}, "INVALID_ARGUMENT"),
    ("ConfigureTopicSchema", {**UNKNOWN_TOPIC, "validation_policy": "none"}, "NOT_FOUND"),
    ("ConfigureTopicSchema", {**UNKNOWN_TOPIC, "validation_policy": "maybe"}, "INVALID_ARGUMENT"),
    (
        "ConfigureTopicSchema",
        {**UNKNOWN_TOPIC, "validation_policy": "none", "enable_payload_validation": True},
        "INVALID_ARGUMENT",
    ),
    ("UpdateTopicValidationPolicy", {**UNKNOWN_TOPIC, "validation_policy": "warn"}, "NOT_FOUND"),
    ("GetTopicSchemaConfig", UNKNOWN_TOPIC, "NOT_FOUND"),
]


@pytest.mark.parametrize(("method", "fields", "code"), REFUSALS)
async def test_what_cannot_be_done_is_refused_with_a_code_and_a_sentence(
    registry: Registry, method: str, fields: dict[str, Any], code: str
) -> None:
    refused, message = await registry.refused(method, **fields)
    assert refused == code, message
    assert message


async def test_registrations_at_once_at_several_ports_get_a_version_each(
    platform: Platform, subject: str
) -> None:
    ports = [Registry(addr) for addr in (*platform.gateway_addrs, platform.admin_addr)]
    definitions = [f"schema {number}" for number in range(9)]
    outcomes = await asyncio.gather(
        *(
            ports[number % len(ports)].register(subject, definition, "string")
            for number, definition in enumerate(definitions)
        )
    )
    assert sorted(each.version for each in outcomes) == list(range(1, 10))
    assert len({each.schema_id for each in outcomes}) == 1
    for definition, each in zip(definitions, outcomes, strict=True):
        found = await ports[0]("GetSchema", schema_id=each.schema_id, version=each.version)
        assert found.schema_definition == definition.encode()
    for port in ports:
        await port.close()


async def test_a_topic_gets_a_subject_and_a_policy(
    registry: Registry, client: Client, subject: str, topic: str
) -> None:
    done = await registry.register(subject, AVRO_1)
    await client.call("CreateProducer", producer_request(topic, "p"))
    unset = await registry("GetTopicSchemaConfig", topic_name=topic)
    assert (unset.schema_subject, unset.validation_policy, unset.schema_id) == ("", "none", 0)
    code, _ = await registry.refused(
        "UpdateTopicValidationPolicy", topic_name=topic, validation_policy="warn"
    )
    assert code == "NOT_FOUND"
    configured = await registry(
        "ConfigureTopicSchema", topic_name=topic, schema_subject=subject, validation_policy="warn"
    )
    assert configured.success
    await registry(
        "UpdateTopicValidationPolicy",
        topic_name=topic,
        validation_policy="enforce",
        enable_payload_validation=True,
    )
    found = await registry("GetTopicSchemaConfig", topic_name=topic)
    assert (found.schema_subject, found.schema_id) == (subject, done.schema_id)
    assert (found.validation_policy, found.enable_payload_validation) == ("enforce", True)


async def test_a_topic_that_is_created_again_has_no_subject(
    registry: Registry, admin: Admin, subject: str, topic: str
) -> None:
    await registry.register(subject, AVRO_1)
    await admin.call("CreateTopic", new_topic(topic))
    await registry("ConfigureTopicSchema", topic_name=topic, schema_subject=subject, validation_policy="warn")
    await admin.delete_topic(topic)
    await admin.call("CreateTopic", new_topic(topic))
    assert (await registry("GetTopicSchemaConfig", topic_name=topic)).schema_subject == ""


async def test_a_topic_s_policy_decides_on_messages_at_every_gateway(
    platform: Platform, client: Client, other_client: Client, subject: str, topic: str
) -> None:
    registry = Registry(platform.admin_addr)
    await registry.register(subject, '{"type": "integer"}', "json_schema")
    producers = [await client.producer(topic, "a"), await other_client.producer(topic, "b")]

    async def outcome(producer: Producer, payload: str) -> str:
        try:
            await producer.send(payload)
        except Refusal as refusal:
            return f"{refusal.code}: {refusal.message}"
        return "taken"

    async def takes(payload: str, *, wanted: bool) -> None:
        """Wait until both gateways take the payload, or both refuse it."""
        expected = "taken" if wanted else "INVALID_ARGUMENT: the payload"
        for producer in producers:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    if (await outcome(producer, payload)).startswith(expected):
                        break
                    await asyncio.sleep(0.02)

    await takes('"text"', wanted=True)
    policy = {"topic_name": topic, "enable_payload_validation": True}
    await registry("ConfigureTopicSchema", schema_subject=subject, validation_policy="enforce", **policy)
    await takes('"text"', wanted=False)
    await takes("7", wanted=True)
    await registry("UpdateTopicValidationPolicy", validation_policy="warn", **policy)
    await takes('"text"', wanted=True)
    await registry.close()
