from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_cli.payload import decode
from danube_client import SchemaType


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_integer_is_read(number: int) -> None:
    assert decode(str(number).encode(), SchemaType.INT64) == number


@pytest.mark.parametrize(
    "text", ["", "-", "+-1", "-+1", "--1", "12\r", "1\n", "1_000", " 1", "٣", "1e3", "0x1", "9" * 5000]
)
def test_what_is_no_decimal_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a 64-bit integer"):
        decode(text.encode(), SchemaType.INT64)


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(payload: bytes) -> None:
    for schema in SchemaType:
        with contextlib.suppress(ValueError):
            decode(payload, schema)
