from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from danube_proto import danube_admin_pb2, danube_api_pb2, danube_platform_pb2

PROTO = Path(__file__).resolve().parents[1]

FIELDS = {
    "StreamMessage": {
        "request_id": 1,
        "msg_id": 2,
        "payload": 3,
        "publish_time": 4,
        "producer_name": 5,
        "subscription_name": 6,
        "attributes": 7,
        "schema_id": 8,
        "schema_version": 9,
        "routing_key": 10,
    },
    "MsgID": {"sequence_id": 1, "producer_id": 2, "topic_name": 3, "broker_addr": 4},
    "TopicLookupResponse": {
        "request_id": 3,
        "response_type": 4,
        "brokerServiceUrl": 5,
        "broker_url": 6,
        "proxy": 7,
    },
    "Schema": {"name": 1, "schema_data": 3, "type_schema": 4},
    "ReliableOptions": {
        "segment_size": 1,
        "storage_backend": 2,
        "storage_path": 3,
        "retention_policy": 4,
        "retention_period": 5,
    },
    "ProducerRequest": {
        "request_id": 1,
        "producer_name": 2,
        "topic_name": 3,
        "schema": 4,
        "producer_access_mode": 5,
        "dispatch_strategy": 6,
    },
}


def test_the_committed_modules_are_what_the_contracts_generate(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", PROTO / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    written = generate.generate(tmp_path)
    assert len(written) == 2 * len(generate.CONTRACTS)
    for path in written:
        committed = PROTO / "src" / "danube_proto" / path.name
        assert committed.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("message", sorted(FIELDS))
def test_field_numbers_are_those_of_the_wire(message: str) -> None:
    descriptor = danube_api_pb2.DESCRIPTOR.message_types_by_name[message]
    assert {field.name: field.number for field in descriptor.fields} == FIELDS[message]


def test_a_message_has_the_bytes_that_the_first_generation_reads() -> None:
    message = danube_api_pb2.StreamMessage(
        request_id=1,
        msg_id=danube_api_pb2.MsgID(sequence_id=2, producer_id=3, topic_name="/a/b", broker_addr="c"),
        payload=b"p",
        publish_time=4,
        producer_name="n",
        attributes={"k": "v"},
    )
    assert message.SerializeToString() == (
        b"\x08\x01\x12\x0d\x08\x02\x10\x03\x1a\x04/a/b\x22\x01c\x1a\x01p\x20\x04\x2a\x01n\x3a\x06\x0a\x01k\x12\x01v"
    )


def test_messages_survive_pickling() -> None:
    message = danube_api_pb2.MsgID(sequence_id=7)
    assert pickle.loads(pickle.dumps(message)) == message  # noqa: S301 - our own bytes


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "theirs first"])
def test_another_registration_of_the_same_names_does_not_clash(ours_first: bool) -> None:
    ours = "from danube_proto import danube_api_pb2 as a, danube_admin_pb2 as b\n"
    theirs = (
        "from google.protobuf import descriptor_pb2, descriptor_pool\n"
        "for package, message in (('danube', 'StreamMessage'), ('danube_admin', 'BrokerInfo')):\n"
        "    file = descriptor_pb2.FileDescriptorProto(name=package + '_theirs.proto', package=package)\n"
        "    file.message_type.add(name=message)\n"
        "    descriptor_pool.Default().Add(file)\n"
        "    descriptor_pool.Default().FindMessageTypeByName(package + '.' + message)\n"
    )
    use = "assert a.MsgID.FromString(a.MsgID(sequence_id=5).SerializeToString()).sequence_id == 5\n"
    code = (ours + theirs if ours_first else theirs + ours) + use
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_an_unset_policy_differs_from_zero() -> None:
    policies = danube_platform_pb2.Policies(max_publish_rate=0)
    assert policies.HasField("max_publish_rate")
    assert not policies.HasField("max_message_size")
    assert len(policies.DESCRIPTOR.fields) == 9


def test_every_method_is_known_by_its_full_name() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in (danube_api_pb2, danube_admin_pb2, danube_platform_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert len(methods) >= 31
    assert "/danube.ConsumerService/ReceiveMessages" in methods
    assert "/danube.HealthCheck/HealthCheck" in methods
    assert "/danube_admin.TopicAdmin/Unsubscribe" in methods
    assert "/danube_admin.BrokerAdmin/UnloadBroker" in methods
    assert "/danube_platform.LoadAdmin/ListBrokerLoads" in methods
    assert "/danube_platform.PolicyAdmin/SetTopicPolicies" in methods
