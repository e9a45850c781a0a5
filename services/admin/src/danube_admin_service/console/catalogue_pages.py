"""The pages of namespaces, security and the audit log."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import msgspec
import orjson

from danube_admin_service.console import calls
from danube_admin_service.console.policy_rows import policy_rows
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.topic_list import namespaces_of
from danube_admin_service.console.visitor import Visitor
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.security.identity import PrincipalType
from danube_common.security.roles import Permission, Scope
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform

AUDIT_LINES: Final = 200
AUDIT_BYTES_MAX: Final = 256 * 1024
KEY_TYPES: Final = ("user", "service_account")
"""Who may have an API key."""


async def namespaces(visitor: Visitor, sources: Sources, _query: Query) -> dict[str, object]:
    """The namespaces, how many topics each has, and its policies."""
    rows = []
    for name in await namespaces_of(visitor, sources):
        plain, partitioned = await sources.topics.listed(name)
        request = platform.GetNamespacePoliciesRequest(namespace=name)
        answer = await visitor.ask(calls.NAMESPACE_POLICIES, request, platform.PoliciesResponse)
        topics = len([one for one in plain if not one.partitioned_id]) + len(partitioned)
        own = msgspec.structs.asdict((await sources.namespaces.get(name)).policies)
        rows.append((name, topics, policy_rows(answer.policies, (("this namespace", own),))))
    return {"rows": rows}


async def security(visitor: Visitor, _sources: Sources, _query: Query) -> dict[str, object]:
    """Roles, who has them where, and API keys."""
    roles = await visitor.ask(f"{calls.SECURITY}/ListRoles", admin.Empty(), admin.RoleListResponse)
    method = f"{calls.SECURITY}/ListAllBindings"
    bindings = await visitor.ask(method, admin.Empty(), admin.BindingListResponse)
    keys = await visitor.ask(calls.LIST_KEYS, platform.ListKeysRequest(), platform.ListKeysResponse)
    return {
        "roles": roles.roles,
        "bindings": bindings.bindings,
        "keys": keys.keys,
        "permissions": tuple(Permission),
        "scopes": tuple(Scope),
        "principal_types": tuple(PrincipalType),
        "key_types": KEY_TYPES,
    }


async def audit(visitor: Visitor, sources: Sources, _query: Query) -> dict[str, object]:
    """The newest lines of the audit log of this admin instance, newest first."""
    if not visitor.may(
        calls.LIST_KEYS, platform.ListKeysRequest()
    ):  # `require` would add a line for each look
        raise RpcError(StatusCode.PERMISSION_DENIED, "the audit log is for those who manage the cluster")
    if (path := sources.audit_file) is None:
        return {"lines": None}
    return {"lines": await asyncio.to_thread(_tail, path), "bound": AUDIT_LINES}


def _tail(path: Path) -> list[dict[str, object]]:
    try:
        with path.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - AUDIT_BYTES_MAX, 0))
            data = file.read(AUDIT_BYTES_MAX)
    except OSError as error:
        raise RpcError(StatusCode.UNAVAILABLE, f"the audit file cannot be read: {error.strerror}") from None
    found = []
    for line in reversed(data.splitlines()[-AUDIT_LINES:]):
        try:
            found.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue  # the first line may be cut
    return found
