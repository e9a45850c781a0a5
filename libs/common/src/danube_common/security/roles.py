"""Roles, bindings and the resources that they are about: the records and their rules. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from danube_common.errors import InvalidInput, InvalidName
from danube_common.model.names import TopicName, check_label, check_namespace
from danube_common.security.identity import Identity

ROLES_MAX: Final = 1_000
BINDINGS_MAX: Final = 10_000
ROLES_PER_BINDING_MAX: Final = 32


class Permission(StrEnum):
    """What a role can allow."""

    LOOKUP = "Lookup"
    PRODUCE = "Produce"
    CONSUME = "Consume"
    REPLICATE = "Replicate"
    MANAGE_NAMESPACE = "ManageNamespace"
    MANAGE_TOPIC = "ManageTopic"
    MANAGE_SCHEMA = "ManageSchema"
    MANAGE_BROKER = "ManageBroker"
    MANAGE_CLUSTER = "ManageCluster"


class Scope(StrEnum):
    """What a binding covers: everything, a namespace with its topics, or topics."""

    CLUSTER = "cluster"
    NAMESPACE = "namespace"
    TOPIC = "topic"


class Role(msgspec.Struct, frozen=True):
    """A named set of permissions."""

    name: str
    permissions: tuple[Permission, ...]


class Binding(msgspec.Struct, frozen=True):
    """Gives a principal the permissions of roles on a resource.

    ``resource`` is empty for the cluster, else a namespace, ``/namespace/topic`` or
    ``/namespace/beginning*``. A topic's name covers its partitions.
    """

    binding_id: str
    principal_type: str
    principal_name: str
    role_names: tuple[str, ...]
    scope: Scope
    resource: str


SYSTEM_ROLES: Final = {
    role.name: role
    for role in (
        Role("admin", tuple(Permission)),
        Role("producer", (Permission.LOOKUP, Permission.PRODUCE)),
        Role("consumer", (Permission.LOOKUP, Permission.CONSUME)),
        Role("viewer", (Permission.LOOKUP,)),
    )
}
"""Roles that every cluster has; they cannot be changed or deleted."""


def new_role(name: str, permissions: list[str]) -> Role:
    """Return a role. Raises InvalidInput."""
    check_label(name, "role")
    if unknown := sorted(set(permissions) - set(Permission)):
        raise InvalidInput(f"{unknown[0][:40]!r} is none of the permissions {', '.join(Permission)}")
    if not permissions:
        raise InvalidInput("a role has at least one permission")
    return Role(name, tuple(each for each in Permission if each in permissions))


def new_binding(
    binding_id: str, kind: str, name: str, role_names: list[str], scope: str, resource: str
) -> Binding:
    """Return a binding. Raises InvalidInput; whether the roles exist is not looked at."""
    check_label(binding_id, "binding")
    identity = Identity.of(kind, name)
    if not 0 < len(role_names) <= ROLES_PER_BINDING_MAX:
        raise InvalidInput(f"a binding has from 1 to {ROLES_PER_BINDING_MAX} roles")
    for role in role_names:
        check_label(role, "role")
    found, place = resource_of(scope, resource)
    return Binding(
        binding_id, identity.kind.value, identity.name, tuple(dict.fromkeys(role_names)), found, place
    )


def resource_of(scope: str, resource: str) -> tuple[Scope, str]:
    """Return scope and resource as they are stored. Raises InvalidInput."""
    try:
        found = Scope(scope)
    except ValueError:
        raise InvalidInput(f"the scope {scope[:40]!r} is none of {', '.join(Scope)}") from None
    if found is Scope.CLUSTER:
        if resource not in ("", "*", "cluster"):
            raise InvalidInput("the scope cluster has no resource name")
        return found, ""
    if found is Scope.NAMESPACE:
        return found, check_namespace(resource.removeprefix("/"))
    beginning = resource.removesuffix("*")
    try:
        TopicName.parse(f"{beginning}x" if beginning != resource else resource)
    except InvalidName as error:
        raise InvalidInput(f"{error}, or /namespace/beginning* for all that begin so") from None
    return found, resource
