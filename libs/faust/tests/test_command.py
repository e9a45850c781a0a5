from __future__ import annotations

import json
from typing import Any

import faust
import pytest

from danube_faust.command import is_current


@pytest.mark.parametrize(
    ("expires", "key", "current"),
    [
        (60, ["ann", [0.0, 10.0]], False),
        (60, ["ann", [90.0, 100.0]], True),
        (None, ["ann", [0.0, 10.0]], True),
        (60, "ann", True),
    ],
)
def test_windows_that_have_expired_are_left_out_of_snapshots(
    expires: int | None, key: Any, current: bool
) -> None:
    table: Any = faust.App("windows", broker="danube://").Table("sums", default=int)
    table.tumbling(10.0, expires=expires)

    assert is_current(table, json.dumps(key).encode(), now_s=100.0) is current


def test_a_table_without_windows_has_no_key_that_expires() -> None:
    table: Any = faust.App("windows", broker="danube://").Table("sums", default=int)

    assert is_current(table, b'["ann", [0.0, 10.0]]', now_s=1e9)
