from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_admin_service.console.topics.payloads import AVRO_BYTES_MAX, BYTES_SHOWN, SHOWN_AS, readable

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "what", "type": "string"}, {"name": "mark", "type": "bytes"}],
}
TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "next", "type": ["null", "Tree"]}],
}


def avro(schema: dict[str, Any], value: object) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()


def test_avro_is_decoded_by_the_schema_of_the_message() -> None:
    payload = avro(ORDER, {"what": "tea", "mark": b"\x00\xff"})
    for form in ("avro", "auto"):
        shown = readable(payload, form, json.dumps(ORDER).encode())
        assert shown.form == "avro"
        assert json.loads(shown.text) == {"what": "tea", "mark": "00 ff"}


def test_what_is_no_avro_says_so_and_is_hexadecimal() -> None:
    definition = json.dumps(ORDER).encode()
    for payload, given_schema, problem in (
        (b"\x08tea", definition, "the payload is no datum"),
        (b"x", None, "has no Avro schema"),
        (b"x" * (AVRO_BYTES_MAX + 1), definition, "are not decoded"),
        (avro(TREE, {"next": None}), json.dumps(TREE).encode(), "recursive"),
    ):
        shown = readable(payload, "avro", given_schema)
        assert shown.form == "hex"
        assert problem in shown.text
        assert "000000  " in shown.text
    assert readable(b"plain", "auto", definition).form == "text"


@pytest.mark.parametrize("form", SHOWN_AS)
@given(payload=st.binary(max_size=64) | st.text(max_size=20).map(str.encode))
def test_every_payload_can_be_read_in_every_form(form: str, payload: bytes) -> None:
    assert isinstance(readable(payload, form).text, str)


def test_long_payloads_are_cut_and_characters_at_the_cut_do_not_make_them_binary() -> None:
    shown = readable("é".encode() * BYTES_SHOWN, "auto")
    assert (shown.form, shown.cut) == ("text", True)
    shown = readable(b"x" + "é".encode() * BYTES_SHOWN, "auto")
    assert (shown.form, shown.cut) == ("text", True)
    assert len(shown.text) <= BYTES_SHOWN
