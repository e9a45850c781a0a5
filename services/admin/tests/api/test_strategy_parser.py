from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danube_admin_service.api.strategy_parser import parse_schema, parse_strategy
from danube_common.errors import InvalidInput
from danube_common.model.schema import SchemaKind, check_schema
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    "text", ["", "non-reliable", "non_reliable", "NonReliable", "NON-RELIABLE", " non-reliable "]
)
def test_every_spelling_of_non_reliable_means_the_same(text: str) -> None:
    assert parse_strategy(text) == Strategy()


@pytest.mark.parametrize("text", ["reliable", "Reliable", "RELIABLE"])
def test_reliable_alone_has_the_defaults(text: str) -> None:
    assert parse_strategy(text) == Strategy(ReliableOptions(storage=StorageBackend.DISK))


@pytest.mark.parametrize("default", StorageBackend)
def test_where_segments_live_is_the_operators_to_say_if_the_words_do_not(default: StorageBackend) -> None:
    for text in ("reliable", "reliable:segment_size=20"):
        assert parse_strategy(text, default) == Strategy(ReliableOptions(storage=default))
    assert parse_strategy("reliable:storage=memory", default) == Strategy(ReliableOptions())


def test_options_of_the_compact_form_are_taken_as_given() -> None:
    text = "reliable:segment_size=7,storage=disk,storage_path=/Data/x=1,retention=ack,retention_period=60"
    assert parse_strategy(text) == Strategy(
        ReliableOptions(7, StorageBackend.DISK, "/Data/x=1", Retention.UNTIL_ACK, 60)
    )


def test_options_left_out_have_the_defaults() -> None:
    assert parse_strategy("reliable: storage = S3") == Strategy(ReliableOptions(storage=StorageBackend.S3))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("reliably", "not a dispatch strategy"),
        ("non-reliable:", "not a dispatch strategy"),
        (":storage=disk", "not a dispatch strategy"),
        ("reliable:", "name=value"),
        ("reliable:storage=disk,", "name=value"),
        ("reliable:colour=red", "segment_size, storage"),
        ("reliable:storage=tape", "memory, disk, s3"),
        ("reliable:retention=never", "ack, expire"),
        ("reliable:segment_size=0", "from 1 on"),
        ("reliable:segment_size=-5", "from 1 on"),
        ("reliable:segment_size=\u0661", "from 1 on"),
        ("reliable:segment_size=" + "9" * 5000, "from 1 on"),
        ("reliable:segment_size=65", "at most 64, not 65"),
        ("reliable:retention_period=99999999999", "retention_period"),
        ("reliable:storage=disk,storage=s3", "twice"),
        ("reliable:storage_path=" + "x" * 2000, "storage_path"),
    ],
)
def test_a_wrong_strategy_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        parse_strategy(text)
    assert len(str(caught.value)) < 300


@unhurried
@given(st.text(max_size=200))
def test_any_text_is_a_strategy_or_invalid_input(text: str) -> None:
    for candidate in (text, f"reliable:{text}"):
        try:
            parse_strategy(candidate)
        except InvalidInput:
            continue


@pytest.mark.parametrize("word", ["json", "JSON", "Json"])
def test_a_schema_type_is_read_in_any_case(word: str) -> None:
    schema = parse_schema("/default/a", word, '{"type": "object"}')
    assert schema.kind is SchemaKind.JSON
    assert schema.name == "/default/a_schema"
    assert schema.definition == '{"type": "object"}'


@pytest.mark.parametrize("word", ["bytes", "String", "INT64"])
def test_schema_data_has_no_meaning_for_other_types(word: str) -> None:
    assert parse_schema("/default/a", word, "{}").definition == ""


@pytest.mark.parametrize("word", ["", "avro", "js", "j" * 5000])
def test_an_unknown_schema_type_is_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="bytes, string, int64, json"):
        parse_schema("/default/a", word, "")


def test_the_longest_topic_name_still_has_a_valid_schema_name() -> None:
    check_schema(parse_schema(f"/{'n' * 255}/{'t' * 255}", "bytes", ""))
