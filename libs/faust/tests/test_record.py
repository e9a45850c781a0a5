from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_faust import record

NAMES = st.text(min_size=1, max_size=8).filter(lambda name: not name.startswith(record.OWN))


@given(
    st.none() | st.binary(max_size=16),
    st.none() | st.binary(max_size=16),
    st.dictionaries(NAMES, st.binary(max_size=8), max_size=4),
    st.none() | st.integers(0, 2**40),
)
def test_a_record_arrives_as_it_was_sent(
    key: bytes | None, value: bytes | None, headers: dict[str, bytes], timestamp_ms: int | None
) -> None:
    timestamp_s = None if timestamp_ms is None else timestamp_ms / 1000
    message = record.outgoing(key, value, headers, timestamp_s)

    found = record.incoming(message.payload, message.attributes, message.key)

    assert (found.key, found.value, dict(found.headers)) == (key, value, headers)
    assert found.timestamp_s == timestamp_s


@given(st.text(max_size=8), st.binary(max_size=8), st.dictionaries(st.text(max_size=12), st.text(max_size=8)))
def test_a_message_of_any_client_is_a_record(key: str, payload: bytes, attributes: dict[str, str]) -> None:
    attributes = {name: text for name, text in attributes.items() if name != record.NULL}

    found = record.incoming(payload, attributes, key)

    assert found.value == payload
    assert found.key == key.encode() or record.KEY in attributes


def test_a_key_of_text_is_the_routing_key_so_that_other_clients_find_the_same_partition() -> None:
    assert record.outgoing("Zürich".encode(), b"").key == "Zürich"


def test_values_that_are_absent_and_values_that_are_empty_differ() -> None:
    absent, empty = record.outgoing(b"k", None), record.outgoing(b"k", b"")

    assert record.incoming(absent.payload, absent.attributes, absent.key).value is None
    assert record.incoming(empty.payload, empty.attributes, empty.key).value == b""


def test_a_header_that_would_be_taken_for_a_fact_of_the_transport_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot begin with"):
        record.outgoing(b"k", b"v", {"faust.null": b"value"})
