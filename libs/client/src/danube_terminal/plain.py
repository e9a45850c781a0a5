"""Converts protobuf messages, times and sizes for JSON and for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def plain(message: Message) -> dict[str, Any]:
    """Return a message as a dict of all its fields, defaults included; 64-bit numbers stay numbers."""
    found: dict[str, Any] = {}
    for field in cast("Descriptor", message.DESCRIPTOR).fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            values = cast("Iterable[Any]", value)
            found[field.name] = [plain(one) if field.message_type is not None else one for one in values]
        else:
            found[field.name] = plain(value) if field.message_type is not None else value
    return found


def moment(ms: int) -> str:
    """Return a time (milliseconds since the epoch) in UTC, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def size(count: int) -> str:
    """Return a number of bytes with a unit: ``512 B``, ``1.5 MiB``."""
    amount = float(count)
    for unit in _UNITS:
        if amount < _STEP or unit == _UNITS[-1]:
            break
        amount /= _STEP
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 segment``, ``2 segments``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
