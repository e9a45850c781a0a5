from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from danube_harness.platforms.standalone import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform for the examples of one page: its topics do not meet those of another page."""
    with Platform.run(tmp_path / "platform") as running:
        yield running
