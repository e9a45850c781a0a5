from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First, whatever the order of the others: it mostly waits, and nobody should wait for it in the end."""
    items.sort(key=lambda item: not item.path.is_relative_to(HERE))
