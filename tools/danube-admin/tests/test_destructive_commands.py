from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
import typer.main
from google.protobuf.message import Message

from danube_admin_cli import outcome
from danube_admin_cli.__main__ import app
from danube_admin_cli.mcp.tools import READS
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema

ADMIN = "/danube_admin"
DESTRUCTIVE: Final[dict[str, tuple[str, str, Message]]] = {
    "brokers unload": ("7", f"{ADMIN}.BrokerAdmin/UnloadBroker", wire.UnloadBrokerResponse()),
    "namespaces delete": (
        "n",
        f"{ADMIN}.NamespaceAdmin/DeleteNamespace",
        wire.NamespaceResponse(success=True),
    ),
    "schemas delete": (
        "orders --version 1",
        "/danube_schema.SchemaRegistry/DeleteSchemaVersion",
        schema.DeleteSchemaVersionResponse(success=True),
    ),
    "security bindings delete": (
        "b1 --scope cluster",
        f"{ADMIN}.SecurityAdmin/DeleteBinding",
        wire.SecurityResponse(success=True),
    ),
    "security keys revoke": ("0011", "/danube_platform.ApiKeys/RevokeKey", platform.RevokeKeyResponse()),
    "security roles delete": (
        "auditor",
        f"{ADMIN}.SecurityAdmin/DeleteRole",
        wire.SecurityResponse(success=True),
    ),
    "subscriptions reset": (
        "/default/t s --to earliest",
        "/danube_platform.TopicDetails/ResetSubscription",
        platform.ResetSubscriptionResponse(),
    ),
    "topics delete": ("/default/t", f"{ADMIN}.TopicAdmin/DeleteTopic", wire.TopicResponse(success=True)),
    "topics unsubscribe": (
        "/default/t -s s",
        f"{ADMIN}.TopicAdmin/Unsubscribe",
        wire.SubscriptionResponse(success=True),
    ),
}
"""What loses messages, cursors, schemas or rights, or takes a process out of service: with arguments, and
what the platform answers."""
RESTORE: Final = "backup restore"
"""Reads a backup before it asks: see `test_backup`."""
HARMLESS: Final = frozenset(
    {
        "backup create",
        "brokers activate",
        "brokers rebalance",
        "cluster add-node",
        "cluster promote-node",
        "cluster remove-node",  # only tells how
        "dead-letters redeliver",
        "mcp",
        "namespaces create",
        "namespaces set-policies",
        "schemas register",
        "schemas set-compatibility",
        "security bindings create",
        "security keys create",
        "security roles create",
        "security tokens create",
        "security tokens validate",
        "serve",  # only tells where
        "server",
        "topics configure-schema",
        "topics create",
        "topics create-partitioned",
        "topics grow",
        "topics set-dispatch-config",
        "topics set-failure-policy",
        "topics set-policies",
        "topics set-validation-policy",
        "topics unload",
    }
)
"""What changes something that can be changed back, or nothing but the machine where it runs."""


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(words), command
    else:
        for name, one in inner.items():
            yield from leaves(one, (*words, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


def test_each_command_is_known_to_read_to_change_or_to_destroy() -> None:
    known = [*READS, *HARMLESS, *DESTRUCTIVE, RESTORE]
    assert sorted(known) == sorted(COMMANDS)


def test_exactly_what_destroys_takes_yes() -> None:
    asks = {words for words, command in COMMANDS.items() if "yes" in {one.name for one in command.params}}
    assert asks == {*DESTRUCTIVE, RESTORE}


@pytest.mark.parametrize("words", DESTRUCTIVE)
def test_what_destroys_is_asked_for_on_a_terminal_and_needs_yes_elsewhere(
    service: Any, cli: Any, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    given, method, service.answers[method] = DESTRUCTIVE[words]
    arguments = [*words.split(), *given.split()]
    ended = cli(*arguments)
    assert (ended.code, "say --yes" in ended.err, service.requests) == (2, True, [])
    terminal = type("Terminal", (), {"isatty": staticmethod(lambda: True)})
    monkeypatch.setattr(outcome, "sys", type("Sys", (), {"stdin": terminal}))
    assert cli(*arguments, stdin=b"n\n").code == 1
    assert not service.requests
    assert cli(*arguments, stdin=b"y\n").code == 0
    for flag in ("--yes", "-y", "--confirm"):
        assert cli(*arguments, flag).code == 0
    assert [name for name, _ in service.requests] == [method] * 4
