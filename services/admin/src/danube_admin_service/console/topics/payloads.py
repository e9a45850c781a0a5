"""Payloads as people read them: JSON, text, Avro, hexadecimal. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from danube_common.errors import InvalidInput, SchemaViolation
from danube_common.schemas.avro_definition import read_datum

SHOWN_AS: Final = ("auto", "text", "json", "avro", "hex")
BYTES_SHOWN: Final = 4096
AVRO_BYTES_MAX: Final = 64 * 1024
"""Larger payloads are not decoded."""


@dataclass(frozen=True)
class Readable:
    """A payload in characters. ``form`` is one of SHOWN_AS but auto; ``cut``: whether there is more."""

    form: str
    text: str
    cut: bool = False


def readable(payload: bytes, shown_as: str, avro: bytes | None = None) -> Readable:
    """Return a payload in a form; ``auto`` takes the first that fits of Avro, JSON, text and hexadecimal.

    ``avro`` is the definition of the message's schema, None if that is not of Avro.
    """
    if shown_as == "avro" or (shown_as == "auto" and avro is not None):
        found = _avro(payload, avro)
        if shown_as == "avro" or found.form == "avro":
            return found
    cut = len(payload) > BYTES_SHOWN
    if shown_as in ("auto", "json"):
        try:
            text = orjson.dumps(orjson.loads(payload), option=orjson.OPT_INDENT_2).decode()
        except orjson.JSONDecodeError:
            if shown_as == "json":
                return Readable("text", "(not JSON)\n" + _text(payload), cut)
        else:
            return Readable("json", text[:BYTES_SHOWN], len(text) > BYTES_SHOWN)
    if shown_as == "text":
        return Readable("text", _text(payload), cut)
    return _text_or_hex(payload, text_wanted=shown_as == "auto", cut=cut)


def _text(payload: bytes) -> str:
    return payload[:BYTES_SHOWN].decode(errors="replace")


def _text_or_hex(payload: bytes, *, text_wanted: bool, cut: bool) -> Readable:
    shown = payload[:BYTES_SHOWN]
    text = shown.decode(errors="replace" if not cut else "ignore")
    if text_wanted and "\ufffd" not in text and all(each.isprintable() or each in "\r\n\t" for each in text):
        return Readable("text", text, cut)
    return Readable("hex", hex_text(shown), cut)


def _avro(payload: bytes, definition: bytes | None) -> Readable:
    if definition is None:
        problem = "(the message has no Avro schema)"
    elif len(payload) > AVRO_BYTES_MAX:
        problem = f"(more than {AVRO_BYTES_MAX} bytes are not decoded)"
    else:
        try:
            datum = read_datum(definition, payload)
            text = orjson.dumps(datum, default=_plain, option=orjson.OPT_INDENT_2).decode()
            return Readable("avro", text[:BYTES_SHOWN], len(text) > BYTES_SHOWN)
        except (InvalidInput, SchemaViolation, TypeError) as error:  # TypeError: an integer beyond 64 bits
            problem = f"({error})"
    cut = len(payload) > BYTES_SHOWN
    return Readable("hex", f"{problem}\n{hex_text(payload[:BYTES_SHOWN])}", cut)


def _plain(value: Any) -> str:
    """Write what JSON has no word for: bytes and fixed."""
    return value.hex(" ") if isinstance(value, bytes) else str(value)


def hex_text(data: bytes) -> str:
    """Return bytes in lines of 16: offset, hexadecimal, and what is printable."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):<47}  {printable}")
    return "\n".join(lines)
