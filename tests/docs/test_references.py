"""The documentation refers only to what is in the repository."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
LINK: Final = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
PATH: Final = re.compile(
    r"`((?:services|libs|tools|tests|proto|docs|deploy|requirements)/[\w./-]+)(?:::(\w+))?`"
)
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
        if not (ROOT / path).exists():
            yield path
        elif name and f"def {name}(" not in (ROOT / path).read_text():
            yield f"{path}::{name}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_refers_to_is_in_the_repository(page: Path) -> None:
    assert list(missing(page)) == []
