"""``danube_admin.SecurityAdmin`` and ``danube_platform.ApiKeys``: roles, bindings and API keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from danube_admin_service.api.unary import precise
from danube_common.cluster import keys
from danube_common.cluster.records import encode_record, read_record, read_records
from danube_common.errors import AlreadyExists, Conflict, InvalidInput, LimitExceeded, NotFound, Refused
from danube_common.metadata.port import MetadataStore
from danube_common.rpc.port import UnaryHandler
from danube_common.security.api_keys import KEYS_MAX, ApiKey, new_key
from danube_common.security.identity import Identity, PrincipalType
from danube_common.security.roles import (
    BINDINGS_MAX,
    ROLES_MAX,
    SYSTEM_ROLES,
    Binding,
    Role,
    new_binding,
    new_role,
    resource_of,
)
from danube_proto import danube_admin_pb2 as api
from danube_proto import danube_platform_pb2 as platform

DESCRIPTION_CHARACTERS_MAX = 256
TTL_S_MAX = 100 * 365 * 86_400


class SecurityAdmin:
    """Writes what the guards of all ports follow. ``now_ms`` is the wall clock."""

    def __init__(self, store: MetadataStore, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the methods of both services."""
        security, api_keys = "/danube_admin.SecurityAdmin", "/danube_platform.ApiKeys"
        return {
            f"{security}/CreateRole": precise(api.CreateRoleRequest, self.create_role),
            f"{security}/GetRole": precise(api.RoleRequest, self.get_role),
            f"{security}/ListRoles": precise(api.Empty, self.list_roles),
            f"{security}/DeleteRole": precise(api.RoleRequest, self.delete_role),
            f"{security}/CreateBinding": precise(api.CreateBindingRequest, self.create_binding),
            f"{security}/GetBinding": precise(api.BindingRequest, self.get_binding),
            f"{security}/ListBindings": precise(api.ListBindingsRequest, self.list_bindings),
            f"{security}/ListAllBindings": precise(api.Empty, self.list_all_bindings),
            f"{security}/DeleteBinding": precise(api.BindingRequest, self.delete_binding),
            f"{api_keys}/CreateKey": precise(platform.CreateKeyRequest, self.create_key),
            f"{api_keys}/ListKeys": precise(platform.ListKeysRequest, self.list_keys),
            f"{api_keys}/RevokeKey": precise(platform.RevokeKeyRequest, self.revoke_key),
        }

    async def create_role(self, request: api.CreateRoleRequest) -> api.SecurityResponse:
        """Create a role; refuse one that exists."""
        role = new_role(request.role.name, list(request.role.permissions))
        if role.name in SYSTEM_ROLES:
            raise AlreadyExists(f"every cluster has the role {role.name!r}")
        await self._put(keys.ROLES, keys.role_key(role.name), role, ROLES_MAX, f"role {role.name!r}")
        return api.SecurityResponse(success=True)

    async def get_role(self, request: api.RoleRequest) -> api.RoleResponse:
        """Return a role."""
        return api.RoleResponse(role=_shown_role(await self._role(request.name)))

    async def list_roles(self, _request: api.Empty) -> api.RoleListResponse:
        """Return all roles, those of every cluster first."""
        roles = [*SYSTEM_ROLES.values(), *await read_records(self._store, keys.ROLES, Role)]
        return api.RoleListResponse(roles=[_shown_role(role) for role in roles])

    async def delete_role(self, request: api.RoleRequest) -> api.SecurityResponse:
        """Delete a role that no binding uses."""
        if request.name in SYSTEM_ROLES:
            raise Refused(f"every cluster has the role {request.name!r}")
        for binding in await self._bindings(keys.BINDINGS):
            if request.name in binding.role_names:
                raise Refused(f"role {request.name!r} is used by binding {binding.binding_id!r}")
        if not await self._store.delete(keys.role_key(request.name)):
            raise _no_role(request.name)
        return api.SecurityResponse(success=True)

    async def create_binding(self, request: api.CreateBindingRequest) -> api.SecurityResponse:
        """Create a binding of roles that exist; refuse one that exists."""
        asked = request.binding
        binding = new_binding(
            asked.id,
            asked.principal_type,
            asked.principal_name,
            list(asked.role_names),
            asked.scope,
            asked.resource_name,
        )
        for role in binding.role_names:
            await self._role(role)
        key = keys.binding_key(binding.scope, binding.resource, binding.binding_id)
        await self._put(keys.BINDINGS, key, binding, BINDINGS_MAX, f"binding {binding.binding_id!r}")
        return api.SecurityResponse(success=True)

    async def get_binding(self, request: api.BindingRequest) -> api.BindingResponse:
        """Return a binding."""
        binding = await read_record(self._store, _binding_key(request), Binding)
        if binding is None:
            raise _no_binding(request)
        return api.BindingResponse(binding=_shown_binding(binding))

    async def list_bindings(self, request: api.ListBindingsRequest) -> api.BindingListResponse:
        """Return the bindings on one resource."""
        scope, resource = resource_of(request.scope, request.resource_name)
        found = await self._bindings(keys.bindings_prefix(scope, resource))
        return api.BindingListResponse(bindings=[_shown_binding(each) for each in found])

    async def list_all_bindings(self, _request: api.Empty) -> api.BindingListResponse:
        """Return the bindings on all resources."""
        found = await self._bindings(keys.BINDINGS)
        return api.BindingListResponse(bindings=[_shown_binding(each) for each in found])

    async def delete_binding(self, request: api.BindingRequest) -> api.SecurityResponse:
        """Delete a binding."""
        if not await self._store.delete(_binding_key(request)):
            raise _no_binding(request)
        return api.SecurityResponse(success=True)

    async def create_key(self, request: platform.CreateKeyRequest) -> platform.CreateKeyResponse:
        """Create an API key, and tell it once."""
        identity = Identity.of(request.principal_type, request.principal_name)
        if identity.kind is PrincipalType.CERTIFICATE:
            raise InvalidInput("an API key is for a user or a service account")
        if len(request.description) > DESCRIPTION_CHARACTERS_MAX:
            raise InvalidInput(f"a description has at most {DESCRIPTION_CHARACTERS_MAX} characters")
        if request.ttl_s > TTL_S_MAX:
            raise InvalidInput(f"ttl_s is at most {TTL_S_MAX}")
        sent, key_id, digest = new_key()
        now_ms = self._now_ms()
        expires_ms = now_ms + 1000 * request.ttl_s if request.ttl_s else 0
        key = ApiKey(
            key_id, digest, identity.kind.value, identity.name, request.description, now_ms, expires_ms
        )
        await self._put(keys.API_KEYS, keys.api_key_key(key_id), key, KEYS_MAX, "this key")
        return platform.CreateKeyResponse(key=sent, info=_shown_key(key))

    async def list_keys(self, _request: platform.ListKeysRequest) -> platform.ListKeysResponse:
        """Return all keys that are not revoked, without their secrets."""
        found = await read_records(self._store, keys.API_KEYS, ApiKey)
        return platform.ListKeysResponse(keys=[_shown_key(key) for key in found])

    async def revoke_key(self, request: platform.RevokeKeyRequest) -> platform.RevokeKeyResponse:
        """Delete a key."""
        if not request.key_id or not await self._store.delete(keys.api_key_key(request.key_id)):
            raise NotFound(f"there is no API key {request.key_id[:40]!r}")
        return platform.RevokeKeyResponse()

    async def _put(self, prefix: str, key: str, record: Any, limit: int, what: str) -> None:
        if len((await self._store.list(prefix)).entries) >= limit:
            raise LimitExceeded(prefix.strip("/"), f"the cluster has {limit} of them already")
        try:
            await self._store.put(key, encode_record(record), expected_revision=0)
        except Conflict:
            raise AlreadyExists(f"{what} exists already") from None

    async def _role(self, name: str) -> Role:
        if (system := SYSTEM_ROLES.get(name)) is not None:
            return system
        role = await read_record(self._store, keys.role_key(name), Role) if name else None
        if role is None:
            raise _no_role(name)
        return role

    async def _bindings(self, prefix: str) -> list[Binding]:
        return await read_records(self._store, prefix, Binding)


def _binding_key(request: api.BindingRequest) -> str:
    scope, resource = resource_of(request.scope, request.resource_name)
    if not request.binding_id:
        raise InvalidInput("the binding's id is empty")
    return keys.binding_key(scope, resource, request.binding_id)


def _no_role(name: str) -> NotFound:
    return NotFound(f"role {name[:40]!r} does not exist")


def _no_binding(request: api.BindingRequest) -> NotFound:
    return NotFound(f"there is no binding {request.binding_id[:40]!r} on this resource")


def _shown_role(role: Role) -> api.RoleDefinition:
    return api.RoleDefinition(
        name=role.name, permissions=list(role.permissions), system=role.name in SYSTEM_ROLES
    )


def _shown_binding(binding: Binding) -> api.BindingDefinition:
    return api.BindingDefinition(
        id=binding.binding_id,
        principal_type=binding.principal_type,
        principal_name=binding.principal_name,
        role_names=binding.role_names,
        scope=binding.scope,
        resource_name=binding.resource,
    )


def _shown_key(key: ApiKey) -> platform.ApiKey:
    return platform.ApiKey(
        key_id=key.key_id,
        principal_type=key.principal_type,
        principal_name=key.principal_name,
        description=key.description,
        created_ms=key.created_ms,
        expires_ms=key.expires_ms,
    )
