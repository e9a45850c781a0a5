from __future__ import annotations

from collections import defaultdict

from danube_admin_service.console.live.scrape import Lag
from danube_admin_service.console.topics.timeline import CURSORS_MAX, timeline
from danube_common.model.position import position_of
from danube_proto import danube_platform_pb2 as platform

NOW_MS = 1_700_000_100_000
LAGS: defaultdict[tuple[str, str], Lag] = defaultdict(Lag)


def segment(first: int, last: int, begin_s: int, end_s: int, storage: str = "disk") -> platform.Segment:
    return platform.Segment(
        topic="/default/t",
        storage=storage,
        first_position=position_of(first, 0, 0),
        last_position=position_of(last, 0, 0),
        oldest_ms=NOW_MS - 1000 * begin_s,
        newest_ms=NOW_MS - 1000 * end_s,
        messages=last - first + 1,
    )


def topic(*subscriptions: platform.SubscriptionDescription, **fields: object) -> platform.TopicDescription:
    described = platform.TopicDescription(
        topic="/default/t",
        reliable=True,
        log_first_sequence=31,
        log_last_sequence=41,
        subscriptions=subscriptions,
    )
    for name, value in fields.items():
        setattr(described, name, value)
    return described


def cursor(name: str, sequence: int, backlog: int) -> platform.SubscriptionDescription:
    return platform.SubscriptionDescription(
        name=name, mark_delete=position_of(sequence, 0, 0), backlog=backlog, backlog_exact=True
    )


SEGMENTS = [segment(1, 10, 100, 80), segment(11, 30, 80, 40, "s3")]


def test_segments_and_the_log_lie_in_time_and_follow_each_other() -> None:
    drawn = timeline(topic(), SEGMENTS, LAGS, NOW_MS)
    assert drawn is not None
    assert [(bar.kind, bar.x, bar.width) for bar in drawn.bars] == [
        ("disk", 0, 20),
        ("s3", 20, 40),
        ("log", 60, 40),
    ]
    assert drawn.retention is None


def test_cursors_are_where_their_next_message_is() -> None:
    described = topic(
        cursor("done", 41, 0), cursor("far", 10, 30), cursor("mid", 20, 20), cursor("near", 36, 5)
    )
    drawn = timeline(described, SEGMENTS, LAGS, NOW_MS)
    assert drawn is not None
    places = {one.name: round(one.x) for one in drawn.cursors}
    assert places == {"done": 100, "far": 20, "mid": 39, "near": 80}
    lags = defaultdict(Lag, {("/default/t", "near"): Lag(5, 10.0)})
    drawn = timeline(described, SEGMENTS, lags, NOW_MS)
    assert drawn is not None
    assert round(drawn.cursors[3].x) == 90
    assert drawn.cursors[3].text.startswith("5 messages behind, the oldest 10")


def test_what_retention_will_delete_is_left_of_its_mark() -> None:
    drawn = timeline(topic(retention="expire", retention_period_s=50), SEGMENTS, LAGS, NOW_MS)
    assert drawn is not None
    assert drawn.retention is not None
    assert drawn.retention.x == 50
    drawn = timeline(topic(retention="expire", retention_period_s=5000), SEGMENTS, LAGS, NOW_MS)
    assert drawn is not None
    assert drawn.retention is None


def test_what_holds_nothing_is_not_drawn_and_many_cursors_are_bounded() -> None:
    assert timeline(topic(reliable=False), SEGMENTS, LAGS, NOW_MS) is None
    assert timeline(topic(log_last_sequence=0), [], LAGS, NOW_MS) is None
    many = [cursor(str(number), 20, 1) for number in range(CURSORS_MAX + 3)]
    drawn = timeline(topic(*many), SEGMENTS, LAGS, NOW_MS)
    assert drawn is not None
    assert (len(drawn.cursors), drawn.more_cursors) == (CURSORS_MAX, 3)
