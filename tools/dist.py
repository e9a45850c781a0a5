"""Builds what users install: wheels and sdists, and what is in them.

A distribution holds the packages of several members of the workspace. Its metadata is put together from
theirs: what they need beside each other, at least in the version that requirements/run.txt pins (faust.txt
for `danubepy-faust`), and the programs they start. The sources are copied into
a tree of their own, from which the sdist and the wheel are built, so an sdist can be built anywhere. Beside
them comes a bill of materials (CycloneDX, JSON): all that a distribution needs with its extras, in the
versions that are pinned for the tests.

    python tools/dist.py            # into dist/
    python tools/dist.py --out DIR
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import metadata as installed
from itertools import chain
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
PINS: Final = ROOT / "requirements" / "run.txt"
FAUST_PINS: Final = PINS.with_name("faust.txt")
OWN: Final = "danubepy"
"""How the names of the workspace's own members and distributions begin."""
TOOL: Final = "danube_terminal.program:run"
"""Starts the program of an extra, or tells how to install the extra."""
NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Distribution:
    """What one wheel holds; the members of an extra are in it too, what they need comes with the extra.

    ``own_extras`` are those that the members have themselves.
    """

    name: str
    description: str
    readme: str
    members: tuple[str, ...]
    needs: tuple[str, ...] = ()
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)
    own_extras: tuple[str, ...] = ()


DISTRIBUTIONS: Final = (
    Distribution(
        "danubepy",
        "Danube in Python: the client library and, with the extra `cli`, the command-line tools.",
        "docs/client.md",
        ("proto", "libs/client"),
        extras={"cli": ("tools/danube-cli", "tools/danube-admin", "tools/danube-perf")},
        own_extras=("s3",),
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
    Distribution(
        "danubepy-faust",
        "Danube in Python: Faust over Danube topics, with agents, tables and windows.",
        "docs/faust.md",
        ("libs/faust",),
        needs=("danubepy",),
    ),
)


def pins(text: str) -> dict[str, str]:
    """Return the pinned version of each distribution in the text of a requirements file."""
    return {
        name.lower(): version
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)
    }


def all_pins() -> dict[str, str]:
    """Return the pinned version of each distribution that what is built may need."""
    files = (FAUST_PINS, PINS)
    return {name: pin for file in files for name, pin in pins(file.read_text("utf-8")).items()}


def project_of(member: str) -> dict[str, Any]:
    """Return the `project` table of a member."""
    table: dict[str, Any] = tomllib.loads((ROOT / member / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def needed(members: tuple[str, ...], versions: dict[str, str]) -> list[str]:
    """Return what the members need beside the workspace, each at least in the pinned version.

    Raises KeyError for a dependency without a pin.
    """
    return at_least(
        [one for member in members for one in project_of(member).get("dependencies", [])], versions
    )


def optional(distribution: Distribution, versions: dict[str, str]) -> dict[str, list[str]]:
    """Return what the extras of the distribution's members need, as `needed`."""
    return {
        extra: at_least(needs, versions)
        for member in (*distribution.members, *chain(*distribution.extras.values()))
        for extra, needs in project_of(member).get("optional-dependencies", {}).items()
        if extra in distribution.own_extras
    }


def at_least(requirements: Iterable[str], versions: dict[str, str]) -> list[str]:
    """Return the requirements that are none of the workspace, with their pinned versions."""
    found: set[str] = set()
    for requirement in requirements:
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
        *(f"{extra} = {toml(of)}" for extra, of in optional(distribution, versions).items()),
        "[project.scripts]",
        *(f"{name} = {toml(target)}" for name, target in sorted(scripts.items())),
    ]
    for group, entries in sorted(entry_points.items()):
        lines.append(f'[project.entry-points."{group}"]')
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
    text = metadata(distribution, version, all_pins())
    (tree / "pyproject.toml").write_text(text, "utf-8")


def materials(distribution: Distribution, version: str, versions: dict[str, str]) -> dict[str, Any]:
    """Return the bill of materials of a distribution, as CycloneDX 1.6.

    Raises KeyError for a dependency without a pin.
    """
    own = f"pkg:pypi/{distribution.name}@{version}"
    direct = [
        Requirement(need)
        for one in DISTRIBUTIONS
        for members in members_of(one, distribution)
        for need in needed(members, versions)
    ]
    direct += map(Requirement, chain(*optional(distribution, versions).values()))
    needs: dict[str, set[str]] = {}
    todo = [*direct]
    while todo:
        needing = todo.pop()
        found = dependencies(needing)
        own_needs = needs.setdefault(name_of(needing), set())
        todo += [one for one in found if name_of(one) not in own_needs]
        own_needs |= {name_of(one) for one in found}
    refs = {name: f"pkg:pypi/{name}@{versions[name]}" for name in sorted(needs)}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid5(NAMESPACE_URL, own).urn,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": distribution.name,
                "version": version,
                "purl": own,
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": ref,
                "name": name,
                "version": versions[name],
                "purl": ref,
                "licenses": license_of(name),
            }
            for name, ref in refs.items()
        ],
        "dependencies": [
            {"ref": own, "dependsOn": listed(refs, {name_of(one) for one in direct})},
            *({"ref": ref, "dependsOn": listed(refs, needs[name])} for name, ref in refs.items()),
        ],
    }


def members_of(one: Distribution, needing: Distribution) -> list[tuple[str, ...]]:
    """Return the members of a distribution that another one, or itself, needs, with extras if it says so."""
    if one is needing or any(need.startswith(f"{one.name}[") for need in needing.needs):
        return [one.members, *one.extras.values()]
    return [one.members] if one.name in needing.needs else []


def listed(refs: dict[str, str], names: Iterable[str]) -> list[str]:
    """Return the references of some components, in order."""
    return [refs[name] for name in sorted(names)]


def name_of(requirement: Requirement) -> str:
    """Return the name of what is required as the pins have it."""
    return str(canonicalize_name(requirement.name))


def dependencies(requirement: Requirement) -> list[Requirement]:
    """Return what an installed distribution needs on this system, with the extras that are asked for."""
    found = map(Requirement, installed(requirement.name).get_all("Requires-Dist") or ())
    extras = {"", *requirement.extras}
    return [
        one
        for one in found
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def license_of(name: str) -> list[dict[str, Any]]:
    """Return the license of an installed distribution as CycloneDX has it."""
    about = installed(name)
    if "License-Expression" in about:
        return [{"expression": about["License-Expression"]}]
    classifiers = about.get_all("Classifier") or ()
    texts = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License ::")]
    return [{"license": {"name": text}} for text in texts or ["not told by its metadata"]]


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
            bill = materials(distribution, version, all_pins())
            (out / f"{distribution.name}-{version}.cdx.json").write_text(json.dumps(bill, indent=2), "utf-8")
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
