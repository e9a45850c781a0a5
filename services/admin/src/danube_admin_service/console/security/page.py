"""The pages of security and of the audit log."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import orjson

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.sources import Query, Sources
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.security.identity import PrincipalType
from danube_common.security.roles import Permission, Scope
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform

AUDIT_LINES: Final = 200
AUDIT_BYTES_MAX: Final = 256 * 1024
KEY_TYPES: Final = ("user", "service_account")
"""Who may have an API key."""


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
