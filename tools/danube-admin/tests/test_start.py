from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from danube_admin_cli.start import parse_start
from danube_proto.danube_platform_pb2 import SubscriptionStart as Start

NOW_MS = 10_000_000


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", Start(kind=Start.EARLIEST)),
        (" Latest ", Start(kind=Start.LATEST)),
        ("-1", Start(kind=Start.LAST, value=1)),
        ("-100", Start(kind=Start.LAST, value=100)),
        ("67108864", Start(kind=Start.POSITION, value=1 << 26)),
        ("20261123", Start(kind=Start.POSITION, value=20261123)),
        (str((1 << 63) - 1), Start(kind=Start.POSITION, value=(1 << 63) - 1)),
        ("90s", Start(kind=Start.TIME, value=NOW_MS - 90_000)),
        ("2h", Start(kind=Start.TIME, value=NOW_MS - 7_200_000)),
        ("9d", Start(kind=Start.TIME, value=0)),
        ("1970-01-02", Start(kind=Start.TIME, value=86_400_000)),
        ("1970-01-01T01:00:00Z", Start(kind=Start.TIME, value=3_600_000)),
        ("1970-01-01T01:00:00", Start(kind=Start.TIME, value=3_600_000)),
        ("1970-01-01 02:00:00.250+01:00", Start(kind=Start.TIME, value=3_600_250)),
    ],
)
def test_each_form_says_where_to_begin(text: str, start: Start) -> None:
    assert parse_start(text, now_ms=NOW_MS) == start


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-0",
        "now",
        "-5m",
        "5 m",
        "1e3",
        "٣",
        str(1 << 63),
        "9" * 40,
        "1969-12-31",
        "2026-13-01",
        "12:00",
    ],
)
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="earliest, latest"):
        parse_start(text, now_ms=NOW_MS)


@given(st.text(max_size=30))
def test_any_text_is_a_start_or_refused(text: str) -> None:
    try:
        start = parse_start(text, now_ms=NOW_MS)
    except typer.BadParameter:
        return
    assert start.value >= 0
