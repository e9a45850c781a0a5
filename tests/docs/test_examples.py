"""The examples of the documentation work and print what the text says."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import danube_client
from danube_harness.platforms.standalone import Platform

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = ROOT / "README.md"
QUICKSTART: Final = ROOT / "docs" / "quickstart.md"
GUIDE: Final = ROOT / "docs" / "guide.md"
SCRIPTS: Final = sorted((ROOT / "examples").glob("*.py"))
DIST: Final = ROOT / "tools" / "dist.py"
GUIDES: Final = [ROOT / "docs" / "client.md", ROOT / "docs" / "schemas.md"]
BLOCK: Final = re.compile(r"^```(console|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT: Final = "$ "
TOOLS: Final = re.compile(r"(?:\.venv/bin/)?\b(danube-cli|danube-admin)\b")
TARGET: Final = re.compile(r"(?:^\$ |`)make ([\w-]+)", re.MULTILINE)
POSITION: Final = re.compile(r"\b\d{8,}\b")
"""Where a message lies in the log: differs from run to run."""
BASH: Final = shutil.which("bash") or "bash"
MAKE: Final = shutil.which("make") or "make"
GATEWAY_ADDR, ADMIN_ADDR = "127.0.0.1:6650", "127.0.0.1:50051"
EXAMPLE_S_MAX: Final = 60.0
WORKSPACE: Final = Path(sysconfig.get_path("scripts"))


@dataclass
class Example:
    """A command or a Python program as printed, and what the text says it prints."""

    language: str
    source: str
    output: str = ""


def examples(text: str) -> list[Example]:
    """The commands and programs of a page; a text block says what the program before it prints."""
    found: list[Example] = []
    for language, block in BLOCK.findall(text):
        if language == "python":
            found.append(Example(language, block))
        elif language == "text":
            if found and found[-1].language == "python":
                found[-1].output = block
        else:
            for line in block.splitlines(keepends=True):
                if line.startswith(PROMPT):
                    found.append(Example(language, line.removeprefix(PROMPT)))
                elif found and found[-1].source.endswith("\\\n"):
                    found[-1].source += line
                elif found:
                    found[-1].output += line
    return [one for one in found if one.language == "python" or TOOLS.search(one.source)]


def run(example: Example, platform: Platform, directory: Path, scripts: Path = WORKSPACE) -> str:
    """What the example prints on this platform instead of the one at the usual addresses."""
    source = example.source.replace(GATEWAY_ADDR, platform.gateway_addr)
    source = source.replace(ADMIN_ADDR, platform.admin_addr)
    if example.language == "python":
        command = [str(scripts / "python"), "-W", "error", "-c", source]
    else:
        command = [BASH, "-c", TOOLS.sub(r"\1", source)]
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "DANUBE_ADMIN_ENDPOINT": f"http://{platform.admin_addr}",
    }
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=EXAMPLE_S_MAX,
    )
    assert done.returncode == 0, f"{example.source}\n{done.stderr}"
    return done.stdout


def example_of_the_client_library() -> Example:
    code = re.search(r"^Example::\n\n((?:    .*\n|\n)+)", danube_client.__doc__ or "", re.MULTILINE)
    assert code is not None, "the module docstring has no example"
    return Example("python", textwrap.dedent(code[1]), "good news\n")


@pytest.mark.timeout(300)
def test_the_examples_of_the_guides_and_of_the_library_print_what_they_say(
    platform: Platform, tmp_path: Path
) -> None:
    shown = [one for page in GUIDES for one in examples(page.read_text())]
    check([*shown, example_of_the_client_library()], platform, tmp_path)


@pytest.fixture(scope="module")
def platform_of_scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One for all scripts, whose topics have names of their own."""
    with Platform.run(tmp_path_factory.mktemp("scripts") / "platform") as running:
        yield running


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_prints_what_it_says(
    script: Path,
    platform_of_scripts: Platform,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), f"http://{platform_of_scripts.gateway_addr}"])
    runpy.run_path(str(script), run_name="__main__")
    described = ast.get_docstring(ast.parse(script.read_text())) or ""
    assert capsys.readouterr().out == textwrap.dedent(described.partition("Prints::\n\n")[2]) + "\n"


def unwrapped(code: str) -> str:
    """Code without what differs when it is formatted at another depth."""
    return re.sub(r"\s+", "", code).replace(",)", ")")


def test_the_pieces_of_the_guide_are_pieces_of_its_scripts() -> None:
    page = GUIDE.read_text()
    scripts = {unwrapped(script.read_text()) for script in SCRIPTS}
    pieces = [unwrapped(block).rstrip(",") for _, block in BLOCK.findall(page)]
    assert len(pieces) == len(SCRIPTS) == 10
    assert [piece for piece in pieces if not any(piece in script for script in scripts)] == []
    assert [script.name for script in SCRIPTS if f"(../examples/{script.name})" not in page] == []


def check(shown: list[Example], platform: Platform, directory: Path, scripts: Path = WORKSPACE) -> None:
    assert shown, "there is no example"
    for example in shown:
        printed = run(example, platform, directory, scripts)
        if example.output:
            assert POSITION.sub("#", printed) == POSITION.sub("#", example.output), example.source


def install_wheels(directory: Path) -> Path:
    """Install what `make dist` builds where nothing else of the workspace is; return the programs' folder.

    What it needs comes from this environment, whose folder of packages is put on the path: the workspace's
    own packages are not in it, only links to their sources, which a folder on the path does not follow.
    """
    wheels, environment = directory / "dist", directory / "environment"
    subprocess.run([sys.executable, DIST, "--out", wheels], check=True)
    venv.create(environment)
    scripts = environment / "bin"
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python")
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", *wheels.glob("*.whl")], check=True)
    (scripts / "nats-server").symlink_to(WORKSPACE / "nats-server")
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "needed.pth").write_text(
        f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n", encoding="utf-8"
    )
    return scripts


@pytest.mark.timeout(180)
def test_wheels_installed_alone_run_the_platform_and_the_examples_of_readme_and_quickstart(
    tmp_path: Path,
) -> None:
    scripts = install_wheels(tmp_path)
    where = subprocess.run(
        [
            scripts / "python",
            "-c",
            "import danube_client, danube_common; print(danube_client.__file__, danube_common.__file__)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(tmp_path)) for path in where.stdout.split())
    for page in [README, QUICKSTART]:
        with Platform.run(tmp_path / page.stem, scripts=scripts) as platform:
            check(examples(page.read_text()), platform, tmp_path, scripts)


@pytest.mark.parametrize(
    "target", sorted({t for page in [README, QUICKSTART, *GUIDES] for t in TARGET.findall(page.read_text())})
)
def test_the_make_targets_of_the_documentation_exist(target: str) -> None:
    done = subprocess.run([MAKE, "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
