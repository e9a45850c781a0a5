from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_cli.payload import as_length_prefixed
from danube_cli.template import template
from danube_client import Message, SchemaType
from danube_client.stream.reading import ReadTopic
from danube_proto import danube_api_pb2 as wire

TOPIC = "/default/t"


def message(payload: bytes = b"\xff p", **fields: Any) -> Message:
    stored = wire.StreamMessage(payload=payload, producer_name="me", publish_time=1700000000123, **fields)
    return Message(stored.SerializeToString(), ReadTopic(TOPIC, None), position=77)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("%o %k %p\\n", b"77 k \xff p\n"),
        ("%t|%T|%n|%S|%K|%h", b"/default/t|1700000000123|me|3|1|a=1,b=2"),
        ("100%% %p%p", b"100% \xff p\xff p"),
        ("\\x00\\xfF\\t\\r\\0\\\\", b"\0\xff\t\r\0\\"),
        ("", b""),
    ],
)
def test_a_format_is_filled_with_the_parts_of_a_message(text: str, shown: bytes) -> None:
    assert template(text)(message(routing_key="k", attributes={"b": "2", "a": "1"})) == shown


def test_what_a_message_lacks_is_empty() -> None:
    assert template("<%k%h>%K")(message()) == b"<>0"


@pytest.mark.parametrize("text", ["%", "%q", "a%", "\\", "\\q", "\\x1", "\\xzz"])
def test_a_part_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no part|is none of"):
        template(text)


@given(st.text(st.characters(codec="utf-8", exclude_characters="%\\")))
def test_other_text_stands_for_itself(text: str) -> None:
    assert template(text)(message()) == text.encode()


@given(st.text())
def test_any_text_is_a_format_or_refused(text: str) -> None:
    try:
        shown = template(text)
    except ValueError:
        return
    shown(message())


def test_a_payload_behind_its_length_is_what_produce_takes() -> None:
    assert as_length_prefixed(message(b"abc"), SchemaType.BYTES) == b"\0\0\0\3abc"
