"""Prints the packages of each member and the imports between them, from the source's import statements.

A *room* is a package (a folder with modules) of one member; the modules at a member's top level are one room
with the member's own name. An *arrow* is an ordered pair of rooms of one member where a module of the first
imports from the second. `--check` fails when a member has more rooms, arrows or top-level modules than
tools/rooms.toml allows, so a commit that complicates the structure has to raise a ceiling on purpose.

    python tools/rooms.py            # one line a member
    python tools/rooms.py --arrows   # and each arrow with the number of imports behind it
    python tools/rooms.py --check    # compare with the ceilings
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CEILINGS: Final = Path(__file__).with_suffix(".toml")


@dataclass
class Member:
    """The rooms and arrows of one import package."""

    name: str
    rooms: set[str] = field(default_factory=set)
    arrows: Counter[tuple[str, str]] = field(default_factory=Counter)
    top_modules: int = 0

    def figures(self) -> dict[str, int]:
        """Returns what the ceilings limit."""
        return {"rooms": len(self.rooms), "arrows": len(self.arrows), "top_modules": self.top_modules}


def main() -> int:
    """Prints the figures; returns 1 if `--check` found one above its ceiling."""
    parser = argparse.ArgumentParser(description="Packages and the imports between them, by member.")
    parser.add_argument("--arrows", action="store_true", help="print each arrow and how many imports it has")
    parser.add_argument("--check", action="store_true", help="fail when a figure is above tools/rooms.toml")
    options = parser.parse_args()
    members = [read_member(source) for source in sources()]
    for member in members:
        figures = ", ".join(f"{figure} {label(what)}" for what, figure in member.figures().items())
        print(f"{member.name}: {figures}")
        if options.arrows:
            for (origin, target), imports in sorted(member.arrows.items()):
                print(f"    {origin} -> {target}  ({imports})")
    if not options.check:
        return 0
    problems = list(excesses(members, tomllib.loads(CEILINGS.read_text())))
    for problem in problems:
        print(problem, file=sys.stderr)
    return bool(problems)


def sources() -> Iterator[Path]:
    """Yields the source folder of each member that the root pyproject.toml lists."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for member in workspace["tool"]["danube"]["workspace"]["members"]:
        yield from (init.parent for init in sorted((ROOT / member / "src").glob("*/__init__.py")))


def read_member(source: Path) -> Member:
    """Returns the rooms and arrows of the package in the folder `source`."""
    member = Member(source.name)
    files = [file for file in sorted(source.rglob("*.py")) if not file.stem.endswith("_pb2")]
    modules = {dotted(file, source): file for file in files}
    packages = {name for name, file in modules.items() if file.stem == "__init__"}
    for name, file in modules.items():
        room = name if name in packages else name.rpartition(".")[0]
        if file.stem != "__init__":
            member.rooms.add(room)
            member.top_modules += room == member.name and file.stem != "__main__"
        for imported in imports(file, modules):
            target = imported if imported in packages else imported.rpartition(".")[0]
            if target != room and (target != member.name or imported != member.name):
                member.arrows[room, target] += 1
    return member


def dotted(file: Path, source: Path) -> str:
    """Returns the import name of `file`."""
    parts = file.relative_to(source.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yields the modules of the same member that `file` imports, one for each imported name's origin."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in modules or node.module in modules:
                    yield full if full in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def excesses(members: list[Member], ceilings: dict[str, dict[str, int]]) -> Iterator[str]:
    """Yields a sentence for each figure that is above its ceiling."""
    for member in members:
        for what, figure in member.figures().items():
            ceiling = ceilings.get(member.name, {}).get(what, 0)
            if figure > ceiling:
                yield f"{member.name}: {figure} {label(what)}, {CEILINGS.name} allows {ceiling}"


def label(figure: str) -> str:
    """Returns the printed name of a figure."""
    return figure.replace("top_modules", "top-level modules")


if __name__ == "__main__":
    sys.exit(main())
