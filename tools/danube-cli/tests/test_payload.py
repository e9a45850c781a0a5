from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_cli.payload import decode
from danube_client import SchemaType
from danube_harness.traffic.int64_payloads import INT64_PAYLOADS, NOT_INT64_PAYLOADS


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_integer_is_read(number: int) -> None:
    assert decode(str(number).encode(), SchemaType.INT64) == number


@pytest.mark.parametrize(("payload", "number"), INT64_PAYLOADS.items())
def test_int64_is_read_as_the_platform_reads_it(payload: bytes, number: int) -> None:
    assert decode(payload, SchemaType.INT64) == number


@pytest.mark.parametrize("payload", NOT_INT64_PAYLOADS)
def test_what_is_no_int64_on_the_wire_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a 64-bit integer|beyond 64 bits|not UTF-8 text"):
        decode(payload, SchemaType.INT64)


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(payload: bytes) -> None:
    for schema in SchemaType:
        with contextlib.suppress(ValueError):
            decode(payload, schema)
