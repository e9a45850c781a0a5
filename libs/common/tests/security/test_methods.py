from __future__ import annotations

from typing import Any

import pytest

from danube_common.rpc.health import HealthService
from danube_common.rpc.port import Methods
from danube_common.rpc.reflection import ReflectionService
from danube_common.security.authorizer import CLUSTER, Resource
from danube_common.security.methods import RULES
from danube_common.security.roles import Permission
from danube_proto import (
    danube_admin_pb2,
    danube_api_pb2,
    danube_current_pb2,
    danube_operations_pb2,
    danube_platform_pb2,
    danube_schema_pb2,
    danube_stream_pb2,
)

CONTRACTS = (
    danube_admin_pb2,
    danube_api_pb2,
    danube_current_pb2,
    danube_operations_pb2,
    danube_platform_pb2,
    danube_schema_pb2,
    danube_stream_pb2,
)
METHODS: dict[str, Any] = {
    f"/{service.full_name}/{method.name}": method
    for contract in CONTRACTS
    for service in contract.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
FIELDS = ("topic", "topic_name", "name", "base_name", "namespace")


def test_every_method_of_every_contract_has_a_rule() -> None:
    assert sorted(set(METHODS) - set(RULES)) == []


def test_the_methods_of_every_port_have_rules() -> None:
    methods = Methods()
    HealthService(lambda: True).register(methods)
    ReflectionService(()).register(methods)
    assert sorted({*methods.unary, *methods.stream, *methods.bidi} - set(RULES)) == []


def test_only_probes_and_the_old_exchange_of_keys_are_for_everybody() -> None:
    public = {name for name, rule in RULES.items() if rule.public}
    health = {f"/grpc.health.v1.Health/{method}" for method in ("Check", "List", "Watch")}
    assert public == {"/danube.AuthService/Authenticate", *health}


def test_what_changes_something_needs_more_than_lookup() -> None:
    verbs = (
        "Set",
        "Create",
        "Delete",
        "Update",
        "Register",
        "Unload",
        "Remove",
        "Add",
        "Reset",
        "Revoke",
        "Trigger",
    )
    weak = [
        name
        for name, rule in RULES.items()
        if name.rpartition("/")[2].startswith(verbs) and rule.permission in (None, Permission.LOOKUP)
    ]
    assert weak == []


@pytest.mark.parametrize("name", sorted(set(METHODS) & set(RULES)))
def test_a_rule_finds_the_topic_or_namespace_that_the_request_names(name: str) -> None:
    rule = RULES[name]
    if rule.find is None:
        assert rule.permission in (None, Permission.PRODUCE, Permission.CONSUME)
        return
    fields = {field.name: field for field in METHODS[name].input_type.fields}
    named = next((fields[each] for each in FIELDS if each in fields), None)
    text = b"/space/thing"
    request = bytes((named.number << 3 | 2, len(text))) + text if named is not None else b""
    found = rule.find(request)
    if rule.find(b"") in (CLUSTER, Resource(anywhere=True)):
        return
    assert found.topic == text.decode() or found.namespace in (text.decode(), "space")
