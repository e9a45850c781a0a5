"""What is an int64 on the wire (docs/wire/v0_2.md, Payloads): one table for servers, clients and tools."""

from __future__ import annotations

from typing import Final

INT64_PAYLOADS: Final = {
    b"0": 0,
    b"-0": 0,
    b"+7": 7,
    b"007": 7,
    b"-42": -42,
    b"12345678": 12345678,
    b"9223372036854775807": (1 << 63) - 1,
    b"-9223372036854775808": -(1 << 63),
    b"+9223372036854775807": (1 << 63) - 1,
    b"00000000000000000001": 1,
}
"""Payloads and their numbers."""
NOT_INT64_PAYLOADS: Final = (
    b"",
    b"-",
    b"+",
    b"--1",
    b"12\r",
    b"12\n",
    b"12\r\n",
    b" 12",
    b"12 ",
    b"\t7 ",
    b"1 2",
    b"1_000",
    b"1.0",
    b"1e3",
    b"0x10",
    b"twelve",
    b"\x00\x01",
    bytes(8),
    b"\xff" * 8,
    b"\x00\x00\x00\x00\x00\x00\x00\x0c",
    bytes(9),
    "\u0663".encode(),
    "\uff17".encode(),
    b"9223372036854775808",
    b"-9223372036854775809",
    b"000000000000000000001",
    b"1" * 5000,
)
"""Payloads that are refused, and shown as bytes where they were stored before."""
