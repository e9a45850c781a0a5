from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.cluster.keys import key_part, namespace_key, topic_key, topic_policy_key
from danube_common.errors import InvalidInput, InvalidName
from danube_common.metadata.key import require_key
from danube_common.model.bundle import BUNDLES_PER_FAMILY_MAX, Bundle, Family
from danube_common.model.ids import ID_MAX, bundle_of, make_id, new_topic_id
from danube_common.model.names import (
    LABEL_LENGTH_MAX,
    PART_BYTES_MAX,
    PART_LENGTH_MAX,
    TopicName,
    check_label,
    check_namespace,
)
from danube_common.model.position import (
    BEFORE_ALL,
    MESSAGES_PER_SECTION_MAX,
    SECTIONS_PER_FRAME_MAX,
    SEQUENCE_MAX,
    end_of_sequence,
    index_of,
    position_of,
    section_of,
    sequence_of,
)

LETTERS = st.characters(categories=["L", "Nd"], include_characters="_-")
PARTS = st.text(LETTERS, min_size=1, max_size=30)
LONG_PARTS = st.text(LETTERS, min_size=1, max_size=PART_LENGTH_MAX).map(
    lambda text: text.encode()[:PART_BYTES_MAX].decode(errors="ignore")
)
NAMES = st.builds(TopicName, PARTS, PARTS)
BUNDLES = st.builds(Bundle, st.sampled_from(Family), st.integers(0, BUNDLES_PER_FAMILY_MAX - 1))
PLACES = st.tuples(
    st.integers(1, SEQUENCE_MAX - 1),
    st.integers(0, SECTIONS_PER_FRAME_MAX - 1),
    st.integers(0, MESSAGES_PER_SECTION_MAX - 1),
)

# Names


@given(NAMES)
def test_a_valid_name_is_read_as_it_is_written(name: TopicName) -> None:
    assert TopicName.parse(str(name)) == name


@given(st.text(max_size=20))
def test_what_is_accepted_is_of_the_documented_form(text: str) -> None:
    try:
        name = TopicName.parse(text)
    except InvalidName:
        return
    assert str(name) == text
    assert all(char.isalnum() or char in "_-" for char in name.namespace + name.local)
    assert name.namespace
    assert name.local


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "//",
        "topic",
        "/default",
        "/default/",
        "//topic",
        "default/topic",
        "/default/a/b",
        "/default/t ",
        "/default/t\n",
        "/default/a.b",
        "/default/a*",
        "/de fault/t",
        "/default/" + "t" * (PART_LENGTH_MAX + 1),
        "/default/" + "主" * (PART_BYTES_MAX // 3 + 1),
        "/" + "主" * (PART_BYTES_MAX // 3 + 1) + "/t",
    ],
)
def test_a_name_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        TopicName.parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/default/" + "t" * 256, "the topic part of .* is longer than 255 characters"),
        ("/default/" + "主" * 129, "the topic part of .* is longer than 384 bytes in UTF-8"),
        ("/" + "主" * 129 + "/t", "the namespace part of .* is longer than 384 bytes in UTF-8"),
    ],
)
def test_a_name_that_is_too_long_is_told_so_in_characters_or_bytes(text: str, sentence: str) -> None:
    with pytest.raises(InvalidName, match=sentence):
        TopicName.parse(text)


@given(LONG_PARTS, LONG_PARTS)
def test_every_name_has_metadata_keys(namespace: str, local: str) -> None:
    name = TopicName.parse(f"/{namespace}/{local}")
    for key in (topic_key(name), topic_policy_key(name), namespace_key(name.namespace)):
        assert require_key(key) == key


@pytest.mark.parametrize("part", ["t" * PART_LENGTH_MAX, "主" * (PART_BYTES_MAX // 3)])
def test_the_longest_parts_are_accepted(part: str) -> None:
    assert TopicName.parse(f"/{part}/{part}").local == part
    assert check_namespace(part) == part


@given(NAMES, st.integers(0, 999_999_999))
def test_a_partition_knows_its_topic_and_its_number(name: TopicName, number: int) -> None:
    partition = name.partition(number)
    assert (partition.partition_of, partition.partition_number) == (name, number)


@pytest.mark.parametrize(
    "local", ["t", "t-part-", "t-part-01", "t-part-x", "-part-1", "t-part--1", "t-part-1-"]
)
def test_a_name_that_only_resembles_a_partition_is_none(local: str) -> None:
    name = TopicName("default", local)
    assert name.partition_of is None
    assert name.partition_number is None


@pytest.mark.parametrize("text", ["", "a\nb", "a\0", "x" * (LABEL_LENGTH_MAX + 1)])
def test_a_label_that_cannot_be_shown_or_kept_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_label(text, "consumer")


# Keys


@given(NAMES, NAMES)
def test_different_topics_have_different_keys_that_every_store_accepts(
    one: TopicName, other: TopicName
) -> None:
    keys = [topic_key(one), topic_policy_key(one), namespace_key(one.namespace)]
    assert all(require_key(key) == key for key in keys)
    assert (topic_key(one) == topic_key(other)) is (one == other)


@given(PARTS, PARTS)
def test_different_names_are_different_key_parts(one: str, other: str) -> None:
    assert (key_part(one) == key_part(other)) is (one == other)


# Positions


@given(PLACES)
def test_a_position_gives_back_its_place(place: tuple[int, int, int]) -> None:
    position = position_of(*place)
    assert (sequence_of(position), section_of(position), index_of(position)) == place
    assert BEFORE_ALL < position < 1 << 63


@given(PLACES, PLACES)
def test_positions_are_in_the_order_of_their_places(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    assert (position_of(*one) < position_of(*other)) is (one < other)


@given(PLACES)
def test_a_sequence_ends_behind_its_messages_and_before_the_next(place: tuple[int, int, int]) -> None:
    end = end_of_sequence(place[0])
    assert position_of(*place) <= end < position_of(place[0] + 1, 0, 0)


# Ids


@given(BUNDLES, st.lists(st.text(max_size=8), max_size=3), st.integers(0, 5))
def test_an_id_is_durable_and_leads_to_its_bundle(bundle: Bundle, parts: list[str], probe: int) -> None:
    identifier = make_id(bundle, *parts, probe=probe)
    assert 0 < identifier <= ID_MAX
    assert bundle_of(identifier) == bundle
    assert make_id(bundle, *parts, probe=probe) == identifier
    assert make_id(bundle, *parts, probe=probe + 1) != identifier


@given(BUNDLES)
def test_a_bundle_is_told_by_its_text_and_by_its_index(bundle: Bundle) -> None:
    assert Bundle.parse(str(bundle)) == bundle == Bundle.from_index(bundle.index)


@given(st.integers(-(1 << 70), 1 << 70))
def test_any_number_leads_to_a_bundle_or_to_none(identifier: int) -> None:
    bundle = bundle_of(identifier)
    assert (bundle is None) is not (0 < identifier <= ID_MAX)


@pytest.mark.parametrize("text", ["", "f", "x1", "f-1", "f16384", "1f", "f1.5", "ff"])
def test_what_is_no_bundle_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Bundle.parse(text)


def test_topic_ids_differ() -> None:
    assert len({new_topic_id() for _ in range(1000)}) == 1000
