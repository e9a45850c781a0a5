from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from danube_common.cluster.records import Layout
from danube_common.cluster.topics import place
from danube_common.model.bundle import Family
from danube_common.model.names import TopicName
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy

LAYOUTS = st.builds(Layout, st.integers(1, 64), st.integers(1, 64))
STRATEGIES = st.sampled_from(
    [
        Strategy(),
        Strategy(ReliableOptions(storage=StorageBackend.DISK)),
        Strategy(ReliableOptions(storage=StorageBackend.MEMORY)),
    ]
)
WORDS = st.text("abcxyz09-_", min_size=1, max_size=12)


@given(WORDS, STRATEGIES, LAYOUTS, st.integers(1, 128))
def test_partitions_of_one_topic_are_spread_evenly(
    word: str, strategy: Strategy, layout: Layout, partitions: int
) -> None:
    topic = TopicName("default", word)
    placed = Counter(place(topic.partition(n), strategy, layout) for n in range(partitions))
    used = min(partitions, layout.count(strategy.family))
    assert len(placed) == used
    assert max(placed.values()) - min(placed.values()) <= 1
    assert set(placed) <= set(layout.bundles())


@given(WORDS, LAYOUTS)
def test_only_topics_that_live_in_memory_use_volatile_logs(word: str, layout: Layout) -> None:
    topic = TopicName("default", word)
    for storage in StorageBackend:
        family = place(topic, Strategy(ReliableOptions(storage=storage)), layout).family
        assert (family is Family.MEMORY) is (storage is StorageBackend.MEMORY)


def test_many_topics_use_every_bundle() -> None:
    layout = Layout(16, 16)
    placed = Counter(place(TopicName("default", f"topic-{n}"), Strategy(), layout) for n in range(1600))
    assert len(placed) == 16
    assert max(placed.values()) < 2 * 100
