from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from danube_perf.scenario import Scenario


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    return Scenario(
        address="localhost:1",
        run=1,
        topics=[f"/default/{number}" for number in range(draw(st.integers(1, 4)))],
        producers=draw(st.integers(0, 9)),
        subscriptions=draw(st.integers(0, 3)),
        consumers=draw(st.integers(1, 3)),
        processes=draw(st.integers(1, 4)),
        rate=draw(st.none() | st.just(100.0)),
        messages=draw(st.none() | st.integers(1, 50)),
    )


@given(scenarios())
def test_processes_share_out_all_clients_and_all_load(scenario: Scenario) -> None:
    if scenario.problem():
        return
    workers = scenario.workers()
    assert len(workers) == scenario.processes
    producers = [one for worker in workers for one in worker.producers]
    assert sorted(one.number for one in producers) == list(range(scenario.producers))
    of_topics = scenario.producers_of()
    assert all(one.number in of_topics[one.topic] for one in producers)
    if scenario.producers:
        assert min(map(len, of_topics.values())) > 0
        if scenario.messages is not None:
            assert sum(one.messages or 0 for one in producers) == scenario.messages
        if scenario.rate is not None:
            assert abs(sum(one.rate or 0.0 for one in producers) - scenario.rate) < 1e-6
            assert {one.offset_s for one in producers} == {
                number / scenario.rate for number in range(scenario.producers)
            }
    places: dict[tuple[str, str], set[int]] = {}
    consumers: Counter[tuple[str, str]] = Counter()
    for number, worker in enumerate(workers):
        for one in worker.consumers:
            places.setdefault((one.topic, one.subscription), set()).add(number)
            consumers[one.topic, one.subscription] += 1
    assert all(len(found) == 1 for found in places.values())
    assert len(places) == len(scenario.topics) * scenario.subscriptions
    assert set(consumers.values()) <= {scenario.consumers}
