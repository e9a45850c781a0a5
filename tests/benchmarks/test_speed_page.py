from __future__ import annotations

import pytest
from tests.benchmarks.perf import h2load_rate
from tests.benchmarks.speed_page import BEGIN, END, page, refreshed, shown
from tests.benchmarks.targets import TARGETS

REPORT = {
    "machine": {"cores": 2, "load_1_min": 0.1},
    "versions": {"Python": "3.11.7"},
    "rounds": [
        {
            "publish.non-reliable.64.per_s": 500.0,
            "publish.empty.64.per_s": 1000.0,
            "consume.256.nats_us": 11.0,
        },
        {
            "publish.non-reliable.64.per_s": 800.0,
            "publish.empty.64.per_s": 1000.0,
            "consume.256.nats_us": 9.0,
        },
        {
            "publish.non-reliable.64.per_s": 300.0,
            "publish.empty.64.per_s": 1000.0,
            "consume.256.nats_us": 12.0,
        },
    ],
}


def row(text: str, name: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {name}")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


H2LOAD = """
finished in 1.01s, 7538.00 req/s, 294.95KB/s
requests: 7538 total, 7539 started, 7538 done, 7538 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 7538 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 294.95KB (302032) total, 22.12KB (22652) headers (space savings 95.77%), 66.25KB ({data}) data
"""


def test_calls_that_end_with_an_error_of_grpc_are_no_rate() -> None:
    assert h2load_rate(H2LOAD.format(data=7538 * 9), 9) == 7538.0
    with pytest.raises(RuntimeError, match="of 7538 calls of h2load only 7537 succeeded"):
        h2load_rate(H2LOAD.format(data=7537 * 9), 9)


def test_each_row_is_a_median_that_is_reached_or_not() -> None:
    text = page(REPORT, None, None)
    assert row(text, "non-reliable, 64 in flight, against an empty") == ["≥ 0.45 times", "0.5 times", "yes"]
    assert row(text, "consume and ack by the v0.2 contract, CPU a message: nats") == [
        "≤ 10 µs",
        "11 µs",
        "**no**",
    ]
    assert row(text, "fan-out to 10")[1:] == ["not measured", ""]
    assert len({target.name for target in TARGETS}) == len(TARGETS)


def test_a_comparison_and_peers_are_in_the_tables_if_they_were_made() -> None:
    comparison = {
        "against": "old",
        "rounds": [{"here.disk.64.per_s": 900.0, "there.disk.64.per_s": 100.0}],
    }
    peer = {
        "name": "P",
        "durability": "D",
        "awaited_per_s": 1.0,
        "in_flight_per_s": 2.0,
        "consume_per_s": 3000.0,
    }
    text = page(REPORT, comparison, {"peers": [peer]})
    assert row(text, "SendMessage, disk, 64 in flight, against old") == ["≥ 4.5 times", "9 times", "yes"]
    assert row(text, "P ") == ["D", "1", "2", "3 000"]


def test_tables_take_the_place_of_the_last_ones() -> None:
    assert refreshed(f"a {BEGIN} old {END} b", "new") == f"a {BEGIN}\n\nnew\n{END} b"
    with pytest.raises(ValueError, match="has no"):
        refreshed("no marks", "new")


@pytest.mark.parametrize(
    ("figure", "text"), [(0.4567, "0.457"), (12.34, "12.3"), (999.8, "1 000"), (12_345.6, "12 346")]
)
def test_figures_have_three_digits(figure: float, text: str) -> None:
    assert shown(figure) == text
