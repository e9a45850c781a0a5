"""Payloads: what a program sends and receives, and the bytes that travel."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from danube_client.schema import SchemaType


@runtime_checkable
class Codec(Protocol):
    """Turns values into payloads and payloads into values."""

    def encode(self, value: Any) -> bytes:
        """Return the payload of a value."""

    def decode(self, payload: bytes) -> Any:
        """Return the value of a payload; raises ValueError."""


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionCodec:
    """A codec of two functions."""

    to_bytes: Callable[[Any], bytes]
    from_bytes: Callable[[bytes], Any]

    def encode(self, value: Any) -> bytes:
        """Return the payload of a value."""
        return self.to_bytes(value)

    def decode(self, payload: bytes) -> Any:
        """Return the value of a payload."""
        return self.from_bytes(payload)


def codec_for(codec: Any) -> Codec | None:
    """Return a codec for what a user gives as one.

    Args:
        codec: an object with ``encode`` and ``decode``; or a pydantic model, a msgspec Struct or a dataclass,
            which travel as JSON; or None.

    Raises:
        TypeError: it is none of these.
    """
    if codec is None:
        return None
    if isinstance(codec, type):
        if hasattr(codec, "model_validate_json"):
            return FunctionCodec(lambda value: value.model_dump_json().encode(), codec.model_validate_json)
        if hasattr(codec, "__struct_fields__"):
            return _msgspec_codec(importlib.import_module("msgspec"), codec)
        if dataclasses.is_dataclass(codec):
            return _dataclass_codec(codec)
    elif isinstance(codec, Codec):
        return codec
    raise TypeError(
        f"{codec!r} is no codec: give a dataclass, a pydantic model, a msgspec Struct, or an object with"
        " encode(value) and decode(payload)"
    )


def _msgspec_codec(msgspec: Any, kind: type) -> Codec:
    return FunctionCodec(msgspec.json.Encoder().encode, msgspec.json.Decoder(kind).decode)


def _dataclass_codec(kind: type) -> Codec:
    try:
        # msgspec also builds what is nested, and checks types.
        return _msgspec_codec(importlib.import_module("msgspec"), kind)
    except ImportError:
        return FunctionCodec(
            lambda value: dump_json(dataclasses.asdict(value)), lambda payload: kind(**json.loads(payload))
        )


def dump_json(value: Any) -> bytes:
    """Return compact JSON. Raises TypeError, ValueError."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encode(payload: Any, schema: SchemaType | None) -> bytes:
    """Return the payload's bytes.

    Args:
        payload: bytes and text travel as they are, a number as decimal text, all else as JSON.
        schema: the type of the topic's payloads; None if it is not known.

    Raises:
        TypeError: the topic takes no such payload, or it is no JSON.
    """
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, str):
        return payload.encode()
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    if isinstance(payload, int) and not isinstance(payload, bool):
        return str(payload).encode()
    if schema is SchemaType.INT64:
        raise TypeError(f"the topic takes 64-bit integers, not {type(payload).__name__}")
    try:
        return dump_json(payload)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"a payload is bytes, str, int or what JSON can say, not {type(payload).__name__}: {error};"
            " give the producer a codec"
        ) from None
