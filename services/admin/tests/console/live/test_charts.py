from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_admin_service.console.live import charts
from danube_admin_service.console.live.scrape import Flow


def test_the_newest_value_of_a_chart_is_at_its_right_and_the_greatest_at_its_top() -> None:
    assert charts.points([0, 2, 1], 2, 5) == "300.0,120.0 450.0,0.0 600.0,60.0"
    assert charts.points([], 1, 2) == ""
    assert charts.area([2, 1], 2, 2) == "0.0,120.0 0.0,0.0 600.0,60.0 600.0,120.0"
    assert charts.area([], 1, 2) == ""


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (3, 5), (7, 10), (12_345, 20_000)]
)
def test_a_scale_ends_at_a_round_number(value: float, top: float) -> None:
    assert charts.nice_top(value) == pytest.approx(top)


@given(st.floats(1e-6, 1e15))
def test_a_scale_holds_its_values_and_is_not_mostly_empty(value: float) -> None:
    assert value <= charts.nice_top(value) <= value * 2.5 * (1 + 1e-9)


@given(st.floats(1e-3, 1e15))
def test_a_scale_of_bytes_is_round_in_its_unit(value: float) -> None:
    top = charts.nice_bytes(value)
    assert value <= top <= value * 2.5 * (1 + 1e-9)
    assert charts.nice_bytes(15_000) == 20 * 1024


def test_a_chart_says_in_words_what_it_draws() -> None:
    chart = charts.messages_chart([Flow(1, 0, 2), Flow(30, 0, 4)], 360)
    assert chart.label == "Messages a second in the last hour: in now 30, out now 4.0, scale to 50"
    assert [tick.text for tick in chart.ticks] == ["25", "50"]
    assert charts.bytes_chart([], 360).lines[0].now == "0 B".replace(" ", "\u202f")
