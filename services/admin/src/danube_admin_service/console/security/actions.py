"""What is done to roles, bindings and API keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from danube_admin_service.console.access import calls
from danube_admin_service.console.action import Action, page
from danube_admin_service.console.forms import Form, listed, seconds
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform


def _binding(form: Form) -> Message:
    return admin.CreateBindingRequest(
        binding=admin.BindingDefinition(
            id=form["binding"].strip(),
            principal_type=form["principal_type"],
            principal_name=form["principal"].strip(),
            role_names=listed(form["roles"]),
            scope=form["scope"],
            resource_name=form["resource"].strip(),
        )
    )


SECURITY_ACTIONS: Final[Mapping[str, Action]] = {
    "create-role": Action(
        f"{calls.SECURITY}/CreateRole",
        lambda form: admin.CreateRoleRequest(
            role=admin.RoleDefinition(name=form["role"].strip(), permissions=listed(form["permissions"]))
        ),
        lambda form: f"Role {form['role'].strip()} was created.",
        page("/security"),
    ),
    "delete-role": Action(
        f"{calls.SECURITY}/DeleteRole",
        lambda form: admin.RoleRequest(name=form["role"]),
        lambda form: f"Role {form['role']} was deleted.",
        page("/security"),
        confirm="role",
    ),
    "create-binding": Action(
        f"{calls.SECURITY}/CreateBinding",
        _binding,
        lambda form: f"{form['principal'].strip()} has {form['roles']}.",
        page("/security"),
    ),
    "delete-binding": Action(
        f"{calls.SECURITY}/DeleteBinding",
        lambda form: admin.BindingRequest(
            scope=form["scope"], resource_name=form["resource"], binding_id=form["binding"]
        ),
        lambda form: f"Binding {form['binding']} was deleted.",
        page("/security"),
        confirm="binding",
    ),
    "create-key": Action(
        f"{calls.KEYS}/CreateKey",
        lambda form: platform.CreateKeyRequest(
            principal_type=form["principal_type"],
            principal_name=form["principal"].strip(),
            description=form["description"].strip(),
            ttl_s=seconds(form["ttl"], "how long it holds"),
        ),
        lambda form: f"An API key of {form['principal'].strip()} was made.",
        page("/security"),
        secret=lambda answer: platform.CreateKeyResponse.FromString(answer).key,
    ),
    "revoke-key": Action(
        f"{calls.KEYS}/RevokeKey",
        lambda form: platform.RevokeKeyRequest(key_id=form["key"]),
        lambda form: f"API key {form['key']} is refused within 5 s.",
        page("/security"),
        confirm="key",
    ),
}
