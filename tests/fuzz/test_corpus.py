"""Every decoder takes what fuzzing has found so far; without a fuzzer, so that the gate tries it."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from tests.fuzz.corpus import kept
from tests.fuzz.targets import TARGETS, WITHOUT_CHECKSUMS, open_target

INPUTS_MIN = 100


def try_all(names: list[str]) -> None:
    """Raise what a decoder raises that it may not."""
    for name in names:
        target = open_target(name)
        for data in (*target.seeds, *kept(name)):
            with contextlib.suppress(*target.allowed):
                target.decode(data)


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - WITHOUT_CHECKSUMS))
def test_what_was_found_is_decoded_or_refused(name: str) -> None:
    try_all([name])


def test_what_was_found_behind_checksums_is_decoded_or_refused() -> None:
    # In a process of its own: there, checksums are taken for right.
    code = f"from tests.fuzz.test_corpus import try_all; try_all({sorted(WITHOUT_CHECKSUMS)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_is_a_corpus() -> None:
    assert sum(len(kept(name)) for name in TARGETS) >= INPUTS_MIN
