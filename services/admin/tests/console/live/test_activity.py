from __future__ import annotations

from danube_admin_service.console.live.activity import SAMPLES_MAX, SERIES_MAX, Activity, Reading
from danube_admin_service.console.live.scrape import Flow, Scrape


def scrape(cpu_s: float = 0.0, **messages: float) -> Reading:
    flows = {topic: Flow(total, 10 * total) for topic, total in messages.items()}
    return Reading(Scrape(cpu_s, 1.0, flows))


def test_rates_are_what_totals_grew_by_in_all_processes_together() -> None:
    activity = Activity()
    activity.take(0, 1, {"a": scrape(t=100), "b": scrape(t=0, cpu_s=1)})
    assert activity.rates == {}
    activity.take(10, 2, {"a": scrape(t=150), "b": scrape(t=20, cpu_s=6)})
    assert activity.rates == {"t": Flow(7, 70)}
    assert activity.total == Flow(7, 70)
    assert activity.processes["b"].cpu_percent == 50


def test_a_process_that_began_anew_counts_from_nothing_and_never_backwards() -> None:
    activity = Activity()
    activity.take(0, 1, {"a": scrape(t=100)})
    activity.take(10, 2, {"a": scrape(t=30)})
    assert activity.rates == {"t": Flow(3, 30)}
    activity.take(20, 3, {"b": scrape(t=500)})
    assert activity.rates == {}


def test_a_process_that_does_not_answer_is_told_of_and_its_next_rate_spans_the_silence() -> None:
    activity = Activity()
    activity.take(0, 1, {"a": scrape(t=0)})
    activity.take(10, 2, {"a": Reading(None, "does not answer")})
    assert activity.processes["a"].problem == "does not answer"
    activity.take(20, 3, {"a": scrape(t=40)})
    assert activity.rates == {"t": Flow(2, 20)}


def test_an_hour_is_kept_of_each_topic_and_what_was_silent_so_long_is_forgotten() -> None:
    activity = Activity()
    total = 0.0
    activity.take(0, 0, {"a": scrape(t=total)})
    for number in range(1, SAMPLES_MAX + 11):
        total += 10 * number
        activity.take(10.0 * number, number, {"a": scrape(t=total)})
    history = activity.history(["t"])
    assert len(history) == SAMPLES_MAX
    assert [flow.messages_in for flow in history] == list(range(11, SAMPLES_MAX + 11))
    assert activity.history() == history
    for number in range(SAMPLES_MAX):
        activity.take(1e5 + number, number, {"a": scrape(t=total)})
    assert activity.history(["t"]) == [Flow()] * SAMPLES_MAX
    assert activity.history(["never"]) == [Flow()] * SAMPLES_MAX


def test_a_topic_that_came_later_has_its_samples_at_the_end() -> None:
    activity = Activity()
    activity.take(0, 0, {"a": scrape(t=0)})
    activity.take(10, 1, {"a": scrape(t=0)})
    activity.take(20, 2, {"a": scrape(t=10)})
    assert activity.history(["t"]) == [Flow(), Flow(), Flow(1, 10)]


def test_the_history_has_a_bound_on_topics_and_the_total_counts_all() -> None:
    activity = Activity()
    names = {f"t{number}": 0.0 for number in range(SERIES_MAX + 5)}
    activity.take(0, 0, {"a": scrape(0.0, **names)})
    activity.take(10, 1, {"a": scrape(0.0, **dict.fromkeys(names, 10.0))})
    last = f"t{SERIES_MAX + 4}"
    assert activity.history([last])[-1] == Flow()
    assert activity.rates[last] == Flow(1, 10)
    assert activity.history()[-1].messages_in == SERIES_MAX + 5
