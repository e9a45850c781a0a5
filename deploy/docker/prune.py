"""Take out of this environment what one distribution does not need: ``prune.py DISTRIBUTION``.

The pinned requirements are those of the whole platform with its tools; an image holds one service.
"""  # noqa: INP001 - a program that runs once, while an image is built

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Final

NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")
AWS_SERVICES: Final = frozenset({"s3", "sso", "sso-oidc", "sts"})
"""What botocore must know: the store itself and the ways to credentials. It describes 400 more."""


def normal(name: str) -> str:
    """One spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed_by(name: str, installed: dict[str, Distribution]) -> set[str]:
    """The names of all that ``name`` requires, directly or not; requirements of extras are not installed."""
    needed: set[str] = set()
    waiting = [normal(name)]
    while waiting:
        current = waiting.pop()
        if current in needed or current not in installed:
            continue
        needed.add(current)
        for line in installed[current].requires or ():
            found = NAME.match(line)
            if found and "extra ==" not in line:
                waiting.append(normal(found.group()))
    return needed


def remove(one: Distribution) -> None:
    """Delete its files, and the directories that are empty then."""
    parents: set[Path] = set()
    for file in one.files or ():
        path = Path(str(one.locate_file(file)))
        path.unlink(missing_ok=True)
        parents.update(path.parents)
    for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
        if parent.is_dir() and parent.is_relative_to(sys.prefix) and not any(parent.iterdir()):
            parent.rmdir()


def prune_botocore() -> None:
    """Descriptions of services that nobody here calls."""
    data = Path(str(distribution("botocore").locate_file("botocore/data")))
    for described in data.iterdir():
        if described.is_dir() and described.name not in AWS_SERVICES:
            shutil.rmtree(described)


def main() -> int:
    """Prune; fails if the distribution is not installed."""
    (name,) = sys.argv[1:]
    installed = {normal(one.name): one for one in distributions()}
    needed = needed_by(distribution(name).name, installed)
    for other in sorted(installed.keys() - needed):
        remove(installed[other])
    if "botocore" in needed:
        prune_botocore()
    sys.stdout.write(f"kept {len(needed)} of {len(installed)}: {' '.join(sorted(needed))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
