"""What the command-line tools make of numbers that are too large, when nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from danube_admin_cli.__main__ import app as danube_admin
from danube_cli.__main__ import app as danube_cli

NOBODY: Final = "http://127.0.0.1:1"
TOO_LARGE: Final = "9" * 25
USAGE: Final = 2
UNREACHABLE: Final = 3
TOOLS: Final = {"danube-admin": danube_admin, "danube-cli": danube_cli}
OWN: Final = {
    ("produce", "--count"),
    ("produce", "--in-flight"),
    ("produce", "--interval"),
    ("consume", "--max"),
}
"""Numbers of danube-cli that stand in no request."""


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below this one, with its words."""
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from commands(each, (*words, name))
    else:
        yield words, command


def kind(parameter: Any) -> Any:
    described = getattr(parameter, "type_descriptor", None)
    return described and described.annotation


def is_number(parameter: Any) -> bool:
    return int in (kind(parameter), *getattr(kind(parameter), "__args__", ()))


def something(parameter: Any) -> str:
    """A value for what a command cannot do without."""
    if is_number(parameter):
        return "1"
    if members := getattr(kind(parameter), "__members__", None):
        return str(next(iter(members.values())))
    return "/default/numbers" if parameter.name == "topic" else "x"


def calls() -> Iterator[tuple[str, ...]]:
    """Every number that a command takes, too large, and what the command needs beside it."""
    for tool, app in TOOLS.items():
        for words, command in commands(typer.main.get_command(app), (tool,)):
            for number in filter(is_number, command.params):
                call = list(words)
                for each in command.params:
                    if each is number or each.required:
                        value = TOO_LARGE if each is number else something(each)
                        call += [value] if each.param_type_name == "argument" else [each.opts[0], value]
                if tool == "danube-admin" or (words[-1], number.opts[0]) not in OWN:
                    yield tuple(call)


@pytest.mark.parametrize("call", list(calls()), ids=" ".join)
def test_a_number_that_no_request_can_hold_is_refused_in_a_sentence(call: tuple[str, ...]) -> None:
    tool, *arguments = call
    nobody = {"DANUBE_SERVICE_ADDR": NOBODY, "DANUBE_ADMIN_ENDPOINT": NOBODY}
    ended = CliRunner().invoke(TOOLS[tool], arguments, env=nobody)
    assert isinstance(ended.exception, SystemExit | None), ended.exception
    # Some of danube-admin's are text to the platform, which knows the bound.
    assert ended.exit_code == USAGE or (tool, ended.exit_code) == ("danube-admin", UNREACHABLE), ended.output
    assert tool == "danube-admin" or "less than or equal to" in ended.stderr


def test_every_number_is_found() -> None:
    assert ("danube-cli", "produce", "--partitions", TOO_LARGE) in calls()
    assert ("danube-admin", "topics", "grow", "/default/numbers", "--partitions", TOO_LARGE) in calls()
