"""Fields and numbers of the current generation on the client port, as its clients have compiled them in."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from danube_proto import danube_current_pb2, danube_schema_pb2

KINDS = {
    FieldDescriptor.TYPE_UINT64: "u64",
    FieldDescriptor.TYPE_UINT32: "u32",
    FieldDescriptor.TYPE_STRING: "str",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
}
DANUBE = """
ProducerRequest: request_id=1:u64 producer_name=2:str topic_name=3:str schema_ref=4:SchemaReference
    producer_access_mode=5:ProducerAccessMode dispatch_strategy=6:DispatchStrategy
SchemaReference: subject=1:str use_latest=2:bool pinned_version=3:u32 min_version=4:u32
ProducerResponse: request_id=1:u64 producer_id=2:u64 producer_name=3:str
ConsumerRequest: request_id=1:u64 topic_name=2:str consumer_name=3:str subscription=4:str
    subscription_type=5:SubscriptionType key_filters=6:rep.str
ConsumerResponse: request_id=1:u64 consumer_id=2:u64 consumer_name=3:str
ReceiveRequest: request_id=1:u64 consumer_id=2:u64
StreamMessage: request_id=1:u64 msg_id=2:MsgID payload=3:bytes publish_time=4:u64 producer_name=5:str
    subscription_name=6:str attributes=7:rep.AttributesEntry schema_id=8:u64 schema_version=9:u32
    routing_key=10:str
MsgID: producer_id=1:u64 topic_name=2:str broker_addr=3:str topic_offset=5:u64
AckRequest: request_id=1:u64 msg_id=2:MsgID subscription_name=3:str
AckResponse: request_id=1:u64
NackRequest: request_id=1:u64 msg_id=2:MsgID subscription_name=3:str delay_ms=4:u64 reason=5:str
NackResponse: request_id=1:u64
TopicLookupRequest: request_id=1:u64 topic=2:str
TopicLookupResponse: request_id=3:u64 response_type=4:LookupType connect_url=5:str broker_url=6:str
    proxy=7:bool
TopicPartitionsResponse: request_id=1:u64 partitions=2:rep.str
HealthCheckRequest: request_id=1:u64 client=2:ClientType id=3:u64
HealthCheckResponse: status=1:ClientStatus
ListSegmentDescriptorsRequest: topic=1:str after_offset=2:u64
ListSegmentDescriptorsResponse: segments=1:rep.SegmentDescriptorProto
SegmentDescriptorProto: segment_id=1:str start_offset=2:u64 end_offset=3:u64 size=4:u64 etag=5:str
    created_at=6:u64
"""
OPTIONAL = {
    "StreamMessage": {"msg_id", "schema_id", "schema_version", "routing_key"},
    "NackRequest": {"msg_id", "delay_ms", "reason"},
}
ENUMS = {
    "ProducerAccessMode": ["Shared", "Exclusive"],
    "DispatchStrategy": ["NonReliable", "Reliable"],
    "SubscriptionType": ["Exclusive", "Shared", "Failover", "KeyShared"],
    "LookupType": ["Redirect", "Connect", "Failed"],
    "ClientType": ["Producer", "Consumer"],
    "ClientStatus": ["OK", "CLOSE"],
}
SCHEMA = """
RegisterSchemaRequest: subject=1:str schema_type=2:str schema_definition=3:bytes description=4:str
    created_by=5:str tags=6:rep.str
RegisterSchemaResponse: schema_id=1:u64 version=2:u32 is_new_version=3:bool fingerprint=4:str
GetSchemaRequest: schema_id=1:u64 version=2:u32
GetLatestSchemaRequest: subject=1:str
GetSchemaResponse: schema_id=1:u64 version=2:u32 subject=3:str schema_type=4:str schema_definition=5:bytes
    description=6:str created_at=7:u64 created_by=8:str tags=9:rep.str fingerprint=10:str
    compatibility_mode=11:str
ListVersionsRequest: subject=1:str
CheckCompatibilityRequest: subject=1:str new_schema_definition=2:bytes schema_type=3:str
    compatibility_mode=4:str
CheckCompatibilityResponse: is_compatible=1:bool errors=2:rep.str
DeleteSchemaVersionRequest: subject=1:str version=2:u32
DeleteSchemaVersionResponse: success=1:bool message=2:str
ListVersionsResponse: versions=1:rep.SchemaVersionInfo
SchemaVersionInfo: version=1:u32 created_at=2:u64 created_by=3:str description=4:str fingerprint=5:str
    schema_id=6:u64
ListSubjectsResponse: subjects=1:rep.SubjectInfo
SubjectInfo: subject=1:str schema_type=2:str latest_version=3:u32 compatibility_mode=4:str schema_id=5:u64
    tags=6:rep.str
SetCompatibilityModeResponse: success=1:bool message=2:str
ConfigureTopicSchemaResponse: success=1:bool message=2:str
UpdateTopicValidationPolicyResponse: success=1:bool message=2:str
SetCompatibilityModeRequest: subject=1:str compatibility_mode=2:str
ConfigureTopicSchemaRequest: topic_name=1:str schema_subject=2:str validation_policy=3:str
    enable_payload_validation=4:bool
UpdateTopicValidationPolicyRequest: topic_name=1:str validation_policy=2:str enable_payload_validation=3:bool
GetTopicSchemaConfigRequest: topic_name=1:str
GetTopicSchemaConfigResponse: schema_subject=1:str validation_policy=2:str enable_payload_validation=3:bool
    schema_id=4:u64
"""


def shown(message: Descriptor) -> list[str]:
    found: list[str] = []
    for field in sorted(message.fields, key=lambda each: each.number):
        other = field.message_type or field.enum_type
        kind = other.name if other is not None else KINDS[field.type]
        found.append(f"{field.name}={field.number}:{'rep.' if field.is_repeated else ''}{kind}")
    return found


def rows(table: str) -> list[tuple[str, list[str]]]:
    words = table.split()
    starts = [at for at, word in enumerate(words) if word.endswith(":")]
    ends = [*starts[1:], len(words)]
    return [(words[at][:-1], words[at + 1 : end]) for at, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize(
    ("file", "name", "fields"),
    [
        pytest.param(module.DESCRIPTOR, name, fields, id=name)
        for module, table in ((danube_current_pb2, DANUBE), (danube_schema_pb2, SCHEMA))
        for name, fields in rows(table)
    ],
)
def test_a_message_has_exactly_the_fields_of_the_wire(file: object, name: str, fields: list[str]) -> None:
    message = file.message_types_by_name[name]  # type: ignore[attr-defined]
    assert shown(message) == fields
    if name in OPTIONAL:
        assert {field.name for field in message.fields if field.has_presence} == OPTIONAL[name]


def test_enums_have_the_values_of_the_wire() -> None:
    file = danube_current_pb2.DESCRIPTOR
    enums = [*file.enum_types_by_name.values()]
    enums += [each for message in file.message_types_by_name.values() for each in message.enum_types]
    found = {enum.name: [value.name for value in enum.values] for enum in enums}
    assert {name: found[name] for name in ENUMS} == ENUMS
    assert all([value.number for value in enum.values] == [*range(len(enum.values))] for enum in enums)
