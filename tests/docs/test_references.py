"""The documentation refers only to what is in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
LINK: Final = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
PATH: Final = re.compile(
    r"`((?:services|libs|tools|tests|proto|docs|deploy|requirements|gateway|owner|storage|common)/[\w./-]+)"
    r"(?:::([\w.]+))?`"
)
SHORT: Final = {
    "gateway": "services/gateway/src/danube_gateway",
    "owner": "services/topic-owner/src/danube_topic_owner",
    "storage": "services/storage/src/danube_storage",
    "common": "libs/common/src/danube_common",
}
"""How docs/concepts.md shortens paths."""
HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],  # noqa: S607 - found on PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def anchors(page: Path) -> set[str]:
    """The names that a forge gives to the page's headings."""
    headings = HEADING.findall(CODE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing(page: Path) -> Iterator[str]:
    text = CODE.sub("", page.read_text())
    for target, anchor in LINK.findall(text):
        place = page.parent / target if target else page
        if not place.exists():
            yield target
        elif anchor and place.suffix == ".md" and anchor not in anchors(place):
            yield f"{target}#{anchor}"
    for path, name in PATH.findall(text):
        folder, _, rest = path.partition("/")
        file = ROOT / SHORT.get(folder, folder) / rest
        if not file.exists():
            yield path
        elif name and not defines(ast.parse(file.read_text()), name.split(".")):
            yield f"{path}::{name}"


def defines(tree: ast.AST, names: list[str]) -> bool:
    """Whether the module or class has the function or class of this dotted name."""
    found = (node for node in ast.iter_child_nodes(tree) if getattr(node, "name", None) == names[0])
    return any(not names[1:] or defines(node, names[1:]) for node in found)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_refers_to_is_in_the_repository(page: Path) -> None:
    assert list(missing(page)) == []
