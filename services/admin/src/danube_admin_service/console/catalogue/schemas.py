"""The pages of schemas: the subjects, one subject, and whether a version may be registered."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

import orjson

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.sources import Query, Sources
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.schemas.kinds import CompatibilityMode, SchemaType
from danube_proto import danube_schema_pb2 as schema

MODES: Final = tuple(CompatibilityMode)
TYPES: Final = tuple(SchemaType)


@dataclass(frozen=True)
class Proposal:
    """A version that somebody wants to register.

    Attributes:
        problems: why it may not be; None if that was not asked.
        difference: lines that tell what would change since the latest version.
    """

    subject: str
    type: str
    definition: str
    problems: list[str] | None = None
    difference: tuple[str, ...] = ()


async def schemas(visitor: Visitor, _sources: Sources, query: Query) -> dict[str, object]:
    """The subjects of the schema registry."""
    listed = await visitor.ask(
        f"{calls.REGISTRY}/ListSubjects", schema.ListSubjectsRequest(), schema.ListSubjectsResponse
    )
    proposal = Proposal(query.get("subject", ""), query.get("type", ""), query.get("definition", ""))
    if "check" in query:
        proposal = await _checked(visitor, proposal, None)
    return {
        "subjects": sorted(listed.subjects, key=lambda one: one.subject),
        "types": TYPES,
        "proposal": proposal,
    }


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
    difference: tuple[str, ...] = ()
    if before is not None:
        old = await _version(visitor, versions[0].schema_id, before)
        difference = changes(old, pretty(shown.schema_definition), f"version {number}")
    latest = await _version(visitor, versions[0].schema_id, numbers[-1]) if "check" in query else shown
    proposal = Proposal(name, shown.schema_type, query.get("definition", pretty(shown.schema_definition)))
    if "check" in query:
        proposal = await _checked(visitor, proposal, latest)
    return {
        "name": name,
        "versions": versions,
        "shown": shown,
        "definition": pretty(shown.schema_definition),
        "difference": difference,
        "modes": MODES,
        "proposal": proposal,
    }


async def _checked(visitor: Visitor, proposal: Proposal, latest: schema.GetSchemaResponse | None) -> Proposal:
    """Ask whether a version may be registered. Raises RpcError."""
    request = schema.CheckCompatibilityRequest(
        subject=proposal.subject.strip(),
        schema_type=proposal.type,
        new_schema_definition=proposal.definition.encode(),
    )
    try:
        answer = await visitor.ask(calls.CHECK_SCHEMA, request, schema.CheckCompatibilityResponse)
        problems = list(answer.errors) if not answer.is_compatible else []
    except RpcError as error:
        is_new = latest is None and error.code is StatusCode.NOT_FOUND
        if not is_new and error.code is not StatusCode.INVALID_ARGUMENT:
            raise
        problems = [] if is_new else [error.message]
    difference = changes(latest, proposal.definition, "proposed") if latest is not None else ()
    return Proposal(proposal.subject, proposal.type, proposal.definition, problems, difference)


def changes(old: schema.GetSchemaResponse, new: str, name: str) -> tuple[str, ...]:
    """Return the lines that differ between a version and a definition, with some around them."""
    return tuple(
        difflib.unified_diff(
            pretty(old.schema_definition).splitlines(),
            pretty(new.encode()).splitlines(),
            f"version {old.version}",
            name,
            lineterm="",
        )
    )


async def _version(visitor: Visitor, schema_id: int, number: int) -> schema.GetSchemaResponse:
    request = schema.GetSchemaRequest(schema_id=schema_id, version=number)
    return await visitor.ask(calls.GET_SCHEMA, request, schema.GetSchemaResponse)


def pretty(definition: bytes) -> str:
    """Return a definition as text, JSON indented."""
    try:
        return orjson.dumps(orjson.loads(definition), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return definition.decode(errors="replace")
