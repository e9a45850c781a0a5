from __future__ import annotations

import pytest
from google.protobuf.message import Message
from services.admin.tests.api.admin_port import Admin

from danube_common.rpc.port import StatusCode
from danube_common.security.policies import SecurityPolicies
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform_pb

SECURITY, API_KEYS = "/danube_admin.SecurityAdmin", "/danube_platform.ApiKeys"


def binding(**changes: object) -> pb.CreateBindingRequest:
    fields = {
        "id": "b",
        "principal_type": "user",
        "principal_name": "alice",
        "role_names": ["viewer"],
        "scope": "topic",
        "resource_name": "/default/a*",
    }
    return pb.CreateBindingRequest(binding=pb.BindingDefinition(**(fields | changes)))  # type: ignore[arg-type]


def role(name: str, *permissions: str) -> pb.CreateRoleRequest:
    return pb.CreateRoleRequest(role=pb.RoleDefinition(name=name, permissions=permissions))


async def refused(admin: Admin, method: str, request: Message) -> StatusCode:
    return (await admin.refused(f"{SECURITY}/{method}", request)).code


async def test_roles_and_bindings_are_told_as_they_were_made(admin: Admin) -> None:
    await admin.call(f"{SECURITY}/CreateRole", role("auditor", "Lookup", "Consume"), pb.SecurityResponse)
    await admin.call(f"{SECURITY}/CreateBinding", binding(role_names=["auditor"]), pb.SecurityResponse)
    roles = await admin.call(f"{SECURITY}/ListRoles", pb.Empty(), pb.RoleListResponse)
    assert [(each.name, each.system) for each in roles.roles][-1] == ("auditor", False)
    assert [each.name for each in roles.roles if each.system] == ["admin", "producer", "consumer", "viewer"]
    asked = pb.BindingRequest(scope="topic", resource_name="/default/a*", binding_id="b")
    found = await admin.call(f"{SECURITY}/GetBinding", asked, pb.BindingResponse)
    assert found.binding == binding(role_names=["auditor"]).binding
    on_topic = pb.ListBindingsRequest(scope="topic", resource_name="/default/a*")
    listed = await admin.call(f"{SECURITY}/ListBindings", on_topic, pb.BindingListResponse)
    assert list(listed.bindings) == [found.binding]
    await admin.call(f"{SECURITY}/DeleteBinding", asked, pb.SecurityResponse)
    every = await admin.call(f"{SECURITY}/ListAllBindings", pb.Empty(), pb.BindingListResponse)
    assert list(every.bindings) == []


async def test_a_namespace_is_the_same_with_and_without_its_slash(admin: Admin) -> None:
    request = binding(scope="namespace", resource_name="/default")
    await admin.call(f"{SECURITY}/CreateBinding", request, pb.SecurityResponse)
    asked = pb.BindingRequest(scope="namespace", resource_name="default", binding_id="b")
    found = await admin.call(f"{SECURITY}/GetBinding", asked, pb.BindingResponse)
    assert found.binding.resource_name == "default"


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("CreateRole", role("viewer", "Lookup"), StatusCode.ALREADY_EXISTS),
        ("CreateRole", role("x", "Everything"), StatusCode.INVALID_ARGUMENT),
        ("CreateRole", role("x"), StatusCode.INVALID_ARGUMENT),
        ("CreateRole", role("", "Lookup"), StatusCode.INVALID_ARGUMENT),
        ("GetRole", pb.RoleRequest(name="x"), StatusCode.NOT_FOUND),
        ("DeleteRole", pb.RoleRequest(name="x"), StatusCode.NOT_FOUND),
        ("DeleteRole", pb.RoleRequest(name="admin"), StatusCode.FAILED_PRECONDITION),
        ("CreateBinding", binding(role_names=["x"]), StatusCode.NOT_FOUND),
        ("CreateBinding", binding(scope="world"), StatusCode.INVALID_ARGUMENT),
        ("CreateBinding", binding(resource_name="/a*/b"), StatusCode.INVALID_ARGUMENT),
        ("CreateBinding", binding(principal_type="broker_internal"), StatusCode.INVALID_ARGUMENT),
        ("GetBinding", pb.BindingRequest(scope="cluster", binding_id="x"), StatusCode.NOT_FOUND),
        ("DeleteBinding", pb.BindingRequest(scope="cluster", binding_id="x"), StatusCode.NOT_FOUND),
    ],
)
async def test_what_cannot_be_is_refused(
    admin: Admin, method: str, request_: Message, code: StatusCode
) -> None:
    before = admin.contents()
    assert await refused(admin, method, request_) is code
    assert admin.contents() == before


async def test_a_role_in_use_stays(admin: Admin) -> None:
    await admin.call(f"{SECURITY}/CreateRole", role("auditor", "Lookup"), pb.SecurityResponse)
    await admin.call(f"{SECURITY}/CreateBinding", binding(role_names=["auditor"]), pb.SecurityResponse)
    assert (
        await refused(admin, "DeleteRole", pb.RoleRequest(name="auditor")) is StatusCode.FAILED_PRECONDITION
    )
    assert await refused(admin, "CreateBinding", binding()) is StatusCode.ALREADY_EXISTS


async def test_an_api_key_is_told_once_and_stored_as_a_digest(admin: Admin) -> None:
    request = platform_pb.CreateKeyRequest(
        principal_type="service_account",
        principal_name="billing",
        description="for the nightly run",
        ttl_s=60,
    )
    created = await admin.call(f"{API_KEYS}/CreateKey", request, platform_pb.CreateKeyResponse)
    assert created.info.expires_ms == created.info.created_ms + 60_000
    secret = created.key.rpartition("_")[2]
    assert secret.encode() not in b"".join(
        entry.value for entry in (await admin.store.list("/security/")).entries
    )
    listed = await admin.call(
        f"{API_KEYS}/ListKeys", platform_pb.ListKeysRequest(), platform_pb.ListKeysResponse
    )
    assert list(listed.keys) == [created.info]
    assert secret not in str(listed)
    policies = await SecurityPolicies.open(admin.store, [])
    assert policies.api_key(created.info.key_id, created.info.created_ms / 1000) is not None
    assert policies.api_key(created.info.key_id, created.info.expires_ms / 1000) is None
    await policies.close()
    revoke = platform_pb.RevokeKeyRequest(key_id=created.info.key_id)
    await admin.call(f"{API_KEYS}/RevokeKey", revoke, platform_pb.RevokeKeyResponse)
    status = await admin.refused(f"{API_KEYS}/RevokeKey", revoke)
    assert status.code is StatusCode.NOT_FOUND
