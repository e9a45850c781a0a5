from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from danube_cli.__main__ import app


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


def test_help_needs_no_slow_library() -> None:
    code = (
        "import sys\n"
        "import danube_cli.__main__\n"
        "sys.exit(bool({'grpc', 'google.protobuf', 'danube_client', 'rich'} & set(sys.modules)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
