from __future__ import annotations

import pytest

from danube_admin_service.console.live import figures


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (figures.count(0), "0"),
        (figures.count(9999), "9 999"),
        (figures.count(12_345), "12.3 k"),
        (figures.count(2e9), "2.0 G"),
        (figures.count(5e15), "5000.0 T"),
        (figures.rate(0), "0"),
        (figures.rate(4.66), "4.7"),
        (figures.rate(4200), "4 200"),
        (figures.size(1023), "1023 B"),
        (figures.size(1536), "1.5 KiB"),
        (figures.size(3 << 40), "3.0 TiB"),
        (figures.age(-1), "0 s"),
        (figures.age(0.2), "200 ms"),
        (figures.age(59), "59 s"),
        (figures.age(150), "2 min"),
        (figures.age(7200), "2 h"),
        (figures.age(86400 * 3), "3 d"),
        (figures.moment(0), "—"),
        (figures.moment(1_700_000_000_000), "2023-11-14 22:13:20 UTC"),
    ],
)
def test_figures_are_written_for_people(written: str, expected: str) -> None:
    assert written.replace("\u202f", " ") == expected
