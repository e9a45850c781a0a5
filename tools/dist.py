"""Builds what users install: the wheels and sdists of `danubepy` and `danubepy-server`.

A distribution holds the packages of several members of the workspace. Its metadata is put together from
theirs: what they need beside each other, at least in the version that requirements/run.txt pins, and the
programs they start. The sources are copied into a tree of their own, from which the sdist and the wheel
are built, so an sdist can be built anywhere.

    python tools/dist.py            # into dist/
    python tools/dist.py --out DIR
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PINS: Final = ROOT / "requirements" / "run.txt"
OWN: Final = "danubepy"
"""How the names of the workspace's own members and distributions begin."""
TOOL: Final = "danube_terminal.program:run"
"""Starts the program of an extra, or tells how to install the extra."""
NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Distribution:
    """What one wheel holds; the members of an extra are in it too, what they need comes with the extra."""

    name: str
    description: str
    readme: str
    members: tuple[str, ...]
    needs: tuple[str, ...] = ()
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)


DISTRIBUTIONS: Final = (
    Distribution(
        "danubepy",
        "Danube in Python: the client library and, with the extra `cli`, the command-line tools.",
        "docs/client.md",
        ("proto", "libs/client"),
        extras={"cli": ("tools/danube-cli", "tools/danube-admin", "tools/danube-perf")},
    ),
    Distribution(
        "danubepy-server",
        "Danube in Python: the services, and the whole platform on one machine.",
        "README.md",
        (
            "libs/common",
            "services/gateway",
            "services/topic-owner",
            "services/storage",
            "services/admin",
            "tools/danube-standalone",
        ),
        needs=("danubepy[cli]",),
    ),
)


def pins(text: str) -> dict[str, str]:
    """Return the pinned version of each distribution in the text of a requirements file."""
    return {
        name.lower(): version
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)
    }


def project_of(member: str) -> dict[str, Any]:
    """Return the `project` table of a member."""
    table: dict[str, Any] = tomllib.loads((ROOT / member / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def needed(members: tuple[str, ...], versions: dict[str, str]) -> list[str]:
    """Return what the members need beside the workspace, each at least in the pinned version.

    Raises KeyError for a dependency without a pin.
    """
    found: set[str] = set()
    for member in members:
        for requirement in project_of(member).get("dependencies", []):
            name = NAME.match(requirement)
            if name is None or name.group().startswith(OWN):
                continue
            found.add(f"{requirement}>={versions[name.group().lower()]}")
    return sorted(found)


def metadata(distribution: Distribution, version: str, versions: dict[str, str]) -> str:
    """Return the pyproject.toml of a distribution."""
    members = (*distribution.members, *(one for extra in distribution.extras.values() for one in extra))
    common = project_of(distribution.members[0])
    scripts = {name: target for one in members for name, target in project_of(one).get("scripts", {}).items()}
    for member in (one for extra in distribution.extras.values() for one in extra):
        scripts |= dict.fromkeys(project_of(member).get("scripts", {}), TOOL)
    entry_points = {
        group: entries
        for one in members
        for group, entries in project_of(one).get("entry-points", {}).items()
    }
    own = [f"{need}=={version}" for need in distribution.needs]
    lines = [
        "[project]",
        f'name = "{distribution.name}"',
        f'version = "{version}"',
        f'description = "{distribution.description}"',
        'readme = "README.md"',
        'license-files = ["LICENSE"]',
        *(
            f"{key} = {toml(common[key])}"
            for key in ("requires-python", "license", "keywords", "classifiers")
        ),
        'authors = [{ name = "The authors of Danube in Python" }]',
        f"dependencies = {toml([*own, *needed(distribution.members, versions)])}",
        "[project.optional-dependencies]",
        *(f"{extra} = {toml(needed(of, versions))}" for extra, of in distribution.extras.items()),
        "[project.scripts]",
        *(f"{name} = {toml(target)}" for name, target in sorted(scripts.items())),
    ]
    for group, entries in sorted(entry_points.items()):
        lines.append(f"[project.entry-points.{group}]")
        lines += [f"{name} = {toml(target)}" for name, target in sorted(entries.items())]
    lines += [
        "[build-system]",
        'requires = ["hatchling"]',
        'build-backend = "hatchling.build"',
        "[tool.hatch.build.targets.wheel]",
        f"packages = {toml([f'src/{package.name}' for one in members for package in packages_of(one)])}",
    ]
    return "\n".join(lines) + "\n"


def toml(value: str | list[str]) -> str:
    """Return a string or a list of strings in TOML."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "[" + ", ".join([toml(one) for one in value]) + "]"


def packages_of(member: str) -> list[Path]:
    """Return the folders of a member's import packages."""
    return sorted(path.parent for path in (ROOT / member / "src").glob("*/__init__.py"))


def stage(distribution: Distribution, tree: Path, version: str) -> None:
    """Write the source tree of a distribution."""
    members = (*distribution.members, *(one for extra in distribution.extras.values() for one in extra))
    for member in members:
        for package in packages_of(member):
            shutil.copytree(
                package, tree / "src" / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
            )
    shutil.copy(ROOT / "LICENSE", tree / "LICENSE")
    shutil.copy(ROOT / distribution.readme, tree / "README.md")
    text = metadata(distribution, version, pins(PINS.read_text("utf-8")))
    (tree / "pyproject.toml").write_text(text, "utf-8")


def build(out: Path) -> list[Path]:
    """Build all distributions into ``out`` and return their files.

    Raises subprocess.CalledProcessError if the build backend refuses one.
    """
    version = (ROOT / "VERSION").read_text("utf-8").strip()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for distribution in DISTRIBUTIONS:
            tree = Path(scratch) / distribution.name
            tree.mkdir()
            stage(distribution, tree, version)
            command = [sys.executable, "-m", "hatchling", "build", "-d", str(out.resolve())]
            subprocess.run(command, cwd=tree, check=True, capture_output=True)
    return sorted(path for path in out.iterdir() if f"-{version}" in path.name)


def main() -> None:
    """Build into `--out` and print what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist", help="folder for the files (default: dist)"
    )
    for path in build(parser.parse_args().out):
        print(f"{path} {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
