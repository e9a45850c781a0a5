from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema_rs
import pytest
import typer.main
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import TextContent

from danube_admin_cli.__main__ import app
from danube_admin_cli.mcp.tools import LEFT_OUT, READS, Tool, WrongArguments, tools
from danube_proto import danube_admin_pb2 as wire

TOOLS = {one.name: one for one in tools(typer.main.get_command(app))}
LIST = "/danube_admin.BrokerAdmin/ListNamespaces"


@asynccontextmanager
async def client(endpoint: str, *options: str) -> AsyncIterator[ClientSession]:
    words = ["-m", "danube_admin_cli", "--endpoint", endpoint, "mcp", *options]
    parameters = StdioServerParameters(command=sys.executable, args=words)
    async with stdio_client(parameters) as (answers, requests), ClientSession(answers, requests) as session:
        await session.initialize()
        yield session


def text(result: Any) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.mark.server
async def test_without_leave_only_what_changes_nothing_is_offered(service: Any) -> None:
    service.answers[LIST] = wire.NamespaceListResponse(namespaces=["default"])
    async with client(service.endpoint) as session:
        offered = {one.name for one in (await session.list_tools()).tools}
        assert offered == {one.name for one in TOOLS.values() if not one.changes}
        found = await session.call_tool("brokers_namespaces", {})
        assert (found.is_error, "default" in text(found)) == (False, True)
        refused = await session.call_tool("namespaces_delete", {"namespace": "default", "confirm": "default"})
        assert refused.is_error
        assert "--allow-changes" in text(refused)
        failed = await session.call_tool("cluster_status", {})
        assert failed.is_error
        assert text(failed).startswith("Error: ")
        for prompt in (await session.list_prompts()).prompts:
            asked = await session.get_prompt(prompt.name)
            named = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", asked.messages[0].content.text))  # type: ignore[union-attr]
            unknown = named - TOOLS.keys() - {"dry_run", "terminal_blocked", "retry_exhausted"}
            assert unknown == set(), prompt.name


@pytest.mark.server
async def test_a_change_is_made_when_it_is_confirmed(service: Any) -> None:
    service.answers["/danube_admin.NamespaceAdmin/DeleteNamespace"] = wire.NamespaceResponse(success=True)
    async with client(service.endpoint, "--allow-changes") as session:
        assert {one.name for one in (await session.list_tools()).tools} == TOOLS.keys()
        refused = await session.call_tool("namespaces_delete", {"namespace": "orders", "confirm": "order"})
        assert refused.is_error
        assert not service.requests
        done = await session.call_tool("namespaces_delete", {"namespace": "orders", "confirm": "orders"})
        assert not done.is_error, text(done)
        assert service.requests


def test_every_command_that_ends_and_makes_no_secret_is_a_tool() -> None:
    words = {" ".join(one.words) for one in TOOLS.values()}
    assert len(words) > 50
    assert not words & LEFT_OUT


@pytest.mark.parametrize("name", sorted(READS))
def test_what_counts_as_reading_is_a_command_that_promises_nothing_else(name: str) -> None:
    tool = {" ".join(one.words): one for one in TOOLS.values()}[name]
    assert not tool.changes
    assert not {"yes", "confirmed"} & {one.name for one in tool.arguments}
    assert not tool.can_be_silent


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_a_tool_tells_its_arguments_and_what_it_does(tool: Tool) -> None:
    schema = tool.schema()
    jsonschema_rs.meta.validate(schema)
    assert tool.text
    assert ("confirm" in schema["required"]) is tool.changes


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (
            "topics_describe",
            {"topic": "/default/t"},
            ["topics", "describe", "--output=json", "--", "/default/t"],
        ),
        ("top", {"limit": 5}, ["top", "--once", "--limit=5", "--output=json"]),
        ("events", {}, ["events", "--seconds=5", "--output=json"]),
        ("metrics", {"name": "lag"}, ["metrics", "--output=json", "--", "lag"]),
        ("topics_describe", {"topic": "--help"}, ["topics", "describe", "--output=json", "--", "--help"]),
        (
            "topics_delete",
            {"topic": "/default/t", "confirm": "/default/t"},
            ["topics", "delete", "--yes", "--output=json", "--", "/default/t"],
        ),
        (
            "brokers_rebalance",
            {"dry_run": True, "max_moves": 3, "confirm": "brokers rebalance"},
            ["brokers", "rebalance", "--dry-run", "--max-moves=3", "--output=json"],
        ),
        (
            "security_roles_create",
            {"name": "r", "permission": ["Lookup", "Produce"], "confirm": "r"},
            [
                "security",
                "roles",
                "create",
                "--permission=Lookup",
                "--permission=Produce",
                "--output=json",
                "--",
                "r",
            ],
        ),
    ],
)
def test_a_call_is_a_command_line(name: str, given: dict[str, Any], words: list[str]) -> None:
    assert TOOLS[name].command(given) == words


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("topics_describe", {}, "topics_describe needs 'topic'"),
        ("topics_describe", {"topic": "t", "endpoint": "http://elsewhere:1"}, "has no argument 'endpoint'"),
        ("topics_delete", {"topic": "/default/t"}, "changes '/default/t': give that as 'confirm', too"),
        ("topics_delete", {"topic": "/default/t", "confirm": "/default/u"}, "changes '/default/t'"),
    ],
)
def test_a_call_with_wrong_arguments_is_refused_with_what_to_do(
    name: str, given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(WrongArguments, match=reason):
        TOOLS[name].command(given)
