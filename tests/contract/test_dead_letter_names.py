from __future__ import annotations

from pathlib import Path
from typing import Any

from danube_client import dead_letter as client
from danube_common.wire import dead_letter as platform


def _names(module: object) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name.isupper()}


def test_clients_owner_and_documentation_have_one_list_of_attributes() -> None:
    assert _names(client) == _names(platform)
    assert sorted(platform.ADDED) == sorted(
        value for name, value in _names(platform).items() if name != "ADDED"
    )
    documented = Path("docs/operations/failed-messages.md").read_text(encoding="utf-8")
    assert [name for name in platform.ADDED if f"`{name}`" not in documented] == []
