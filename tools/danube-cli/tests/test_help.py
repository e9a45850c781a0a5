from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from danube_cli.__main__ import app
from danube_harness.services.stub_gateway import StubGateway
from danube_proto import danube_api_pb2 as wire


def commands() -> Iterator[tuple[str, ...]]:
    """Every command, by its words."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for name, command in root.commands.items():
        yield from (
            [(name, below) for below in command.commands] if isinstance(command, TyperGroup) else [(name,)]
        )


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_has_help_with_examples(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    assert f"  danube-cli {' '.join(words)} " in done.stdout
    assert words[0] == "profile" or "Exit codes: 0 " in done.stdout


def test_the_shell_can_complete_commands() -> None:
    typed = {"_DANUBE_CLI_COMPLETE": "complete_bash", "COMP_WORDS": "danube-cli pro", "COMP_CWORD": "1"}
    tool = Path(sysconfig.get_path("scripts")) / "danube-cli"
    done = subprocess.run([tool], env={**os.environ, **typed}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["produce", "profile"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("peek",),
        ("replay", "--into", "/default/x"),
        ("topics", "list"),
        ("produce", "-m", "x", "--key", "k"),
        ("consume", "-m", "s", "--sub-type", "key-shared"),
    ],
)
async def test_what_a_platform_without_streaming_cannot_do_is_refused(
    gateway: StubGateway, cli: Any, arguments: tuple[str, ...]
) -> None:
    gateway.schemas["/default/test_topic"] = wire.Schema(type_schema=wire.Schema.String)
    ended = await cli(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert "native streaming" in ended.err
    assert not gateway.accepted


def test_help_needs_no_slow_library() -> None:
    code = (
        "import sys\n"
        "import danube_cli.__main__\n"
        "sys.exit(bool({'grpc', 'google.protobuf', 'danube_client', 'rich'} & set(sys.modules)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
