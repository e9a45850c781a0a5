from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tests.conformance.strict import Malformed, decode
from tests.conformance.stubs import CONTRACTS, danube, message_class, pool
from tests.conformance.tables import CURRENT_METHODS, ENUMS, MESSAGES, METHODS

KINDS = {
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
}


def kind_of(field: FieldDescriptor) -> str:
    repeated = "repeated " if field.is_repeated else ""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        message = field.message_type
        assert message is not None
        if message.GetOptions().map_entry:
            assert [kind_of(entry) for entry in message.fields] == ["string", "string"]
            return "map"
        return f"{repeated}message {message.full_name.partition('.')[2]}"
    if field.type == FieldDescriptor.TYPE_ENUM:
        enum = field.enum_type
        assert enum is not None
        return f"{repeated}enum {enum.full_name.partition('.')[2]}"
    return repeated + KINDS[field.type]


def declared(package: str) -> Any:
    name = {"danube": "danube_api.proto", "danube_admin": "danube_admin.proto"}[package]
    return pool().FindFileByName(name)


@pytest.mark.parametrize("package", MESSAGES)
def test_every_message_has_exactly_the_fields_of_the_wire(package: str) -> None:
    found = {
        name: {field.number: (field.name, kind_of(field)) for field in descriptor.fields}
        for name, descriptor in declared(package).message_types_by_name.items()
    }
    assert found == MESSAGES[package]


@pytest.mark.parametrize("package", ENUMS)
def test_every_enum_has_exactly_the_values_of_the_wire(package: str) -> None:
    file = declared(package)
    enums = list(file.enum_types_by_name.values())
    enums += [enum for message in file.message_types_by_name.values() for enum in message.enum_types]
    found = {
        enum.full_name.partition(".")[2]: {value.name: value.number for value in enum.values}
        for enum in enums
    }
    assert found == ENUMS[package]


def test_every_service_has_exactly_the_methods_of_the_wire() -> None:
    found = {}
    for package in MESSAGES:
        for service in declared(package).services_by_name.values():
            for method in service.methods:
                stream = "stream " if method.server_streaming else ""
                assert not method.client_streaming
                found[f"/{service.full_name}/{method.name}"] = (
                    method.input_type.name,
                    stream + method.output_type.name,
                )
    assert found == {**METHODS, **CURRENT_METHODS}


def test_the_contracts_are_proto3_and_stand_alone() -> None:
    for package in MESSAGES:
        file = declared(package)
        assert file.package == package
        assert not file.dependencies
        text = (CONTRACTS / file.name).read_text()
        assert re.search(r'^syntax = "proto3";$', text, re.MULTILINE)


def test_submessages_keep_their_presence() -> None:
    descriptor: Descriptor = message_class("danube.ProducerRequest").DESCRIPTOR
    assert descriptor.fields_by_name["schema"].has_presence
    assert descriptor.fields_by_name["dispatch_strategy"].has_presence


def test_the_strict_decoder_reads_what_is_sound() -> None:
    sound = danube.StreamMessage(
        request_id=(1 << 64) - 1,
        msg_id=danube.MsgID(sequence_id=1, topic_name="/default/t"),
        payload=b"\xff\x00",
        attributes={"key": "välue"},
    )
    assert decode("danube.StreamMessage", sound.SerializeToString()) == sound


@pytest.mark.parametrize(
    ("full_name", "data", "complaint"),
    [
        ("danube.MessageResponse", b"\x0a\x01x", "wire type"),
        ("danube.MessageResponse", b"\x08", "broken varint"),
        ("danube.MessageResponse", b"\x12\x05x", "ends within"),
        ("danube.ProducerResponse", b"\x1a\x01\xff", "not UTF-8"),
        ("danube.StreamMessage", b"\x12\x02\x12\x00", "wire type"),
        ("danube.StreamMessage", b"\x1a\x01x", "without msg_id"),
        ("danube.StreamMessage", b"\x12\x02\x08\x01", "names no topic"),
        ("danube.StreamMessage", b"\x3a\x02\x08\x01", "wire type"),
        ("danube.SchemaResponse", b"\x08\x01", "without schema"),
        ("danube.HealthCheckResponse", b"\x08\x02", "no name"),
        ("danube.TopicLookupResponse", b"\x20\x02\x2a\x10http://host:1234", "Failed"),
        ("danube.TopicLookupResponse", b"\x20\x01", "not http"),
        ("danube.TopicLookupResponse", b"\x20\x01\x2a\x09host:1234", "not http"),
    ],
)
def test_the_strict_decoder_refuses_what_the_official_client_does_not_survive(
    full_name: str, data: bytes, complaint: str
) -> None:
    with pytest.raises(Malformed, match=complaint):
        decode(full_name, data)
