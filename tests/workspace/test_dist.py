"""The distributions that users install."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

SCRIPT: Final = Path(__file__).resolve().parents[2] / "tools" / "dist.py"
BROUGHT: Final = {"botocore", "pydantic_core"}
"""Parts of what is asked for: of aiobotocore and of pydantic."""
OPTIONAL: Final = {"matplotlib", "mcp", "mcp_types", "opentelemetry", "pytest", "pytest_asyncio"}
"""Imported where a user asks for what needs it, with a sentence that says so."""


@pytest.fixture(scope="module")
def dist() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dist", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dist"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(dist: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of the distributions, by the end of their names."""
    files = [file for file in dist.build(tmp_path_factory.mktemp("dist")) if file.suffix != ".json"]
    return {re.sub(r"-[0-9][^-]*?(?=\.tar|-py)", "", file.name): file for file in files}


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.endswith(".py")}


def test_a_wheel_and_an_sdist_of_each_distribution_are_built(built: dict[str, Path]) -> None:
    assert sorted(built) == [
        "danubepy-py3-none-any.whl",
        "danubepy.tar.gz",
        "danubepy_faust-py3-none-any.whl",
        "danubepy_faust.tar.gz",
        "danubepy_server-py3-none-any.whl",
        "danubepy_server.tar.gz",
    ]


@pytest.mark.parametrize("name", ["danubepy", "danubepy_faust", "danubepy_server"])
def test_the_wheel_of_an_unpacked_sdist_has_the_same_modules(
    built: dict[str, Path], name: str, tmp_path: Path
) -> None:
    with tarfile.open(built[f"{name}.tar.gz"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=tree, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert names(wheel) == names(built[f"{name}-py3-none-any.whl"])


def test_no_two_wheels_hold_the_same_file(built: dict[str, Path]) -> None:
    wheels = [names(file) for name, file in built.items() if name.endswith(".whl")]
    assert len(set().union(*wheels)) == sum(map(len, wheels))


@pytest.mark.parametrize("name", ["danubepy", "danubepy_faust", "danubepy_server"])
def test_what_a_wheel_imports_it_asks_for(built: dict[str, Path], name: str) -> None:
    with zipfile.ZipFile(built[f"{name}-py3-none-any.whl"]) as archive:
        sources = [archive.read(one).decode() for one in archive.namelist() if one.endswith(".py")]
        (metadata,) = (archive.read(one).decode() for one in archive.namelist() if one.endswith("/METADATA"))
    asked = {one.lower() for one in re.findall(r"^Requires-Dist: ([A-Za-z0-9._-]+)", metadata, re.MULTILINE)}
    provided = packages_distributions()
    missing = {
        module
        for source in sources
        for module in imported(ast.parse(source))
        if module not in sys.stdlib_module_names | BROUGHT | OPTIONAL and not module.startswith("danube_")
        if asked.isdisjoint([one.lower().replace("_", "-") for one in provided[module]])
    }
    assert not missing


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_bill_of_materials_names_all_that_a_distribution_needs(dist: ModuleType, number: int) -> None:
    distribution = dist.DISTRIBUTIONS[number]
    versions = dist.all_pins()
    bill = dist.materials(distribution, "1.2.3", versions)
    parts = {part["name"]: part for part in bill["components"]}
    assert parts.keys() <= versions.keys()
    assert all(part["version"] == versions[name] and part["licenses"] for name, part in parts.items())
    needs = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert needs.keys() == {
        f"pkg:pypi/{distribution.name}@1.2.3",
        *(part["bom-ref"] for part in parts.values()),
    }
    assert {ref for one in needs.values() for ref in one} <= needs.keys()
    assert {"grpcio", "protobuf", "typing-extensions"} <= parts.keys()  # the last one is of what grpcio needs
    assert ("h2corn" in parts) is (distribution.name == "danubepy-server")


def imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_a_dependency_without_a_pin_is_an_error(dist: ModuleType) -> None:
    with pytest.raises(KeyError):
        dist.needed(("libs/client",), {"protobuf": "1.0"})


PROGRAM = "import sys; sys.argv = ['danube-cli']; from danube_terminal.program import run; run()"


@pytest.mark.parametrize(
    ("loading", "told"),
    [
        (
            "raise ModuleNotFoundError('no typer', name='typer')",
            (1, "danube-cli needs typer: pip install 'danubepy[cli]'\n"),
        ),
        ("raise KeyboardInterrupt", (130, "")),
    ],
    ids=["without its extra", "interrupted"],
)
def test_a_tool_that_cannot_be_loaded_ends_without_a_traceback(
    tmp_path: Path, loading: str, told: tuple[int, str]
) -> None:
    (tmp_path / "typer.py").write_text(loading)
    done = subprocess.run(
        [f"{sysconfig.get_path('scripts')}/python", "-c", PROGRAM],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == told


def test_nothing_slow_is_loaded_before_an_interrupt_is_expected() -> None:
    code = "import sys, danube_terminal.program; sys.exit('importlib.metadata' in sys.modules)"
    subprocess.run([f"{sysconfig.get_path('scripts')}/python", "-c", code], check=True)
