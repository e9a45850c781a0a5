from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from danube_harness.platforms.standalone import Platform

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(?:console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = "$ "
TOOLS = re.compile(r"(?:\.venv/bin/)?\b(danube-cli|danube-admin)\b")
TARGET = re.compile(r"(?:^\$ |`)make ([\w-]+)", re.MULTILINE)
BASH, MAKE = shutil.which("bash") or "bash", shutil.which("make") or "make"
GATEWAY_ADDR, ADMIN_ADDR = "127.0.0.1:6650", "127.0.0.1:50051"


@dataclass
class Example:
    """A command as printed, and what the text says it prints."""

    command: str
    output: str


def examples(text: str) -> list[Example]:
    """The commands of all console blocks, in order."""
    found: list[Example] = []
    for block in BLOCK.findall(text):
        for line in block.splitlines(keepends=True):
            if line.startswith(PROMPT):
                found.append(Example(line.removeprefix(PROMPT), ""))
            elif found and found[-1].command.endswith("\\\n"):
                found[-1].command += line
            elif found:
                found[-1].output += line
    return found


@pytest.mark.timeout(120)
def test_the_commands_of_the_readme_print_what_it_says(platform: Platform, tmp_path: Path) -> None:
    shown = [example for example in examples(README.read_text()) if TOOLS.search(example.command)]
    assert shown, "the README has no example"
    scripts = sysconfig.get_path("scripts")
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "DANUBE_ADMIN_ENDPOINT": f"http://{platform.admin_addr}",
    }
    places = {GATEWAY_ADDR: platform.gateway_addr, ADMIN_ADDR: platform.admin_addr}
    for example in shown:
        command = TOOLS.sub(r"\1", example.command)
        for printed, actual in places.items():
            command = command.replace(printed, actual)
        done = subprocess.run(
            [BASH, "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{example.command}{done.stderr}"
        if example.output:
            assert done.stdout == example.output, example.command


@pytest.mark.parametrize("target", sorted(set(TARGET.findall(README.read_text()))))
def test_the_make_targets_of_the_readme_exist(target: str) -> None:
    done = subprocess.run([MAKE, "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
