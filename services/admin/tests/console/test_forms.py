from __future__ import annotations

import pytest

from danube_admin_service.console.forms import attributes_of, listed, seconds
from danube_common.errors import InvalidInput


def test_durations_are_read_with_their_unit() -> None:
    assert [seconds(text, "it") for text in ("", "90", "90s", "15m", "12h", "30d")] == [
        0,
        90,
        90,
        900,
        43_200,
        2_592_000,
    ]
    for wrong in ("h", "-1s", "1.5h", "soon"):
        with pytest.raises(InvalidInput):
            seconds(wrong, "it")


def test_attributes_are_lines_with_names() -> None:
    assert attributes_of(" a = 1\n\nb=x=y\n") == {"a": "1", "b": "x=y"}
    for wrong in ("a", "=1", "\n".join(f"{n}=1" for n in range(65))):
        with pytest.raises(InvalidInput):
            attributes_of(wrong)
    assert listed("a, b,,c") == ["a", "b", "c"]
