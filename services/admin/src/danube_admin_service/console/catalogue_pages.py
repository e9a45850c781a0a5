"""The pages of namespaces, schemas, security and the audit log."""

from __future__ import annotations

import asyncio
import difflib
import json
import os
from pathlib import Path
from typing import Final

import orjson

from danube_admin_service.console import calls
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.topic_pages import namespaces_of
from danube_admin_service.console.visitor import Visitor
from danube_common.rpc.port import RpcError, StatusCode
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema

AUDIT_LINES: Final = 200
AUDIT_BYTES_MAX: Final = 256 * 1024


async def namespaces(visitor: Visitor, sources: Sources, _query: Query) -> dict[str, object]:
    """The namespaces, how many topics each has, and its policies."""
    rows = []
    for name in await namespaces_of(visitor, sources):
        plain, partitioned = await sources.topics.listed(name)
        request = platform.GetNamespacePoliciesRequest(namespace=name)
        answer = await visitor.ask(calls.NAMESPACE_POLICIES, request, platform.PoliciesResponse)
        topics = len([one for one in plain if not one.partitioned_id]) + len(partitioned)
        rows.append((name, topics, json.loads(answer.policies)))
    return {"rows": rows}


async def schemas(visitor: Visitor, _sources: Sources, _query: Query) -> dict[str, object]:
    """The subjects of the schema registry."""
    listed = await visitor.ask(
        f"{calls.REGISTRY}/ListSubjects", schema.ListSubjectsRequest(), schema.ListSubjectsResponse
    )
    return {"subjects": sorted(listed.subjects, key=lambda one: one.subject)}


async def subject(visitor: Visitor, _sources: Sources, query: Query) -> dict[str, object]:
    """One subject: its latest version or the one asked for, and what changed since the one before."""
    name = query.get("name", "")
    listing = schema.ListVersionsRequest(subject=name)
    listed = await visitor.ask(f"{calls.REGISTRY}/ListVersions", listing, schema.ListVersionsResponse)
    versions = sorted(listed.versions, key=lambda one: one.version)
    if not versions:
        raise RpcError(StatusCode.NOT_FOUND, f"subject {name} has no version")
    numbers = [one.version for one in versions]
    asked = query.get("version", "")
    number = int(asked) if asked.isascii() and asked.isdigit() else numbers[-1]
    shown = await _version(visitor, versions[0].schema_id, number)
    before = max((one for one in numbers if one < number), default=None)
    difference: list[str] = []
    if before is not None:
        old = await _version(visitor, versions[0].schema_id, before)
        difference = list(
            difflib.unified_diff(
                pretty(old.schema_definition).splitlines(),
                pretty(shown.schema_definition).splitlines(),
                f"version {before}",
                f"version {number}",
                lineterm="",
            )
        )
    return {
        "name": name,
        "versions": versions,
        "shown": shown,
        "definition": pretty(shown.schema_definition),
        "difference": difference,
    }


async def _version(visitor: Visitor, schema_id: int, number: int) -> schema.GetSchemaResponse:
    request = schema.GetSchemaRequest(schema_id=schema_id, version=number)
    return await visitor.ask(f"{calls.REGISTRY}/GetSchema", request, schema.GetSchemaResponse)


def pretty(definition: bytes) -> str:
    """Return a definition as text, JSON indented."""
    try:
        return orjson.dumps(orjson.loads(definition), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return definition.decode(errors="replace")


async def security(visitor: Visitor, _sources: Sources, _query: Query) -> dict[str, object]:
    """Roles, who has them where, and API keys."""
    roles = await visitor.ask(f"{calls.SECURITY}/ListRoles", admin.Empty(), admin.RoleListResponse)
    method = f"{calls.SECURITY}/ListAllBindings"
    bindings = await visitor.ask(method, admin.Empty(), admin.BindingListResponse)
    keys = await visitor.ask(calls.LIST_KEYS, platform.ListKeysRequest(), platform.ListKeysResponse)
    return {"roles": roles.roles, "bindings": bindings.bindings, "keys": keys.keys}


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
