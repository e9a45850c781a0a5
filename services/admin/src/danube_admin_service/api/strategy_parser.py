"""Parses the texts by which an operator names a dispatch strategy and a schema type.

``reliable`` alone has the defaults of `ReliableOptions`, but for where segments live: that is for the
operator to say; options follow a colon:
``reliable:segment_size=20,storage=disk,storage_path=/data,retention=expire,retention_period=3600``
(MB, and seconds). The original takes ``non-reliable`` while its own tool sends ``non_reliable``:
here dashes, underscores and case do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from danube_common.errors import InvalidInput
from danube_common.model.schema import SCHEMA_NAME_LENGTH_MAX, Schema, SchemaKind
from danube_common.model.strategy import (
    DEFAULT_STORAGE,
    ReliableOptions,
    Retention,
    StorageBackend,
    Strategy,
    check_options,
)

DIGITS_MAX: Final = 18

_NON_RELIABLE: Final = frozenset({"", "nonreliable"})
_RELIABLE: Final = "reliable"
_STORAGE: Final = {
    "memory": StorageBackend.MEMORY,
    "inmemory": StorageBackend.MEMORY,
    "disk": StorageBackend.DISK,
    "s3": StorageBackend.S3,
}
_RETENTION: Final = {
    "ack": Retention.UNTIL_ACK,
    "retainuntilack": Retention.UNTIL_ACK,
    "expire": Retention.UNTIL_EXPIRE,
    "retainuntilexpire": Retention.UNTIL_EXPIRE,
}


def parse_strategy(text: str, default_storage: StorageBackend = DEFAULT_STORAGE) -> Strategy:
    """Parse a dispatch strategy; raises InvalidInput with the accepted forms."""
    word, colon, rest = text.partition(":")
    word = _folded(word)
    if word == _RELIABLE:
        return Strategy(_options(rest if colon else None, default_storage))
    if word in _NON_RELIABLE and not colon:
        return Strategy()
    raise InvalidInput(
        f"{_shown(text)} is not a dispatch strategy: use 'non-reliable', 'reliable' or"
        " 'reliable:segment_size=20,storage=disk,retention=expire,retention_period=3600'"
    )


def parse_schema(topic: str, schema_type: str, schema_data: str) -> Schema:
    """Return a topic's schema for the name of its type; only ``json`` uses ``schema_data``.

    Raises InvalidInput for an unknown word.
    """
    try:
        kind = SchemaKind(schema_type.strip().lower())
    except ValueError:
        raise InvalidInput(
            f"{_shown(schema_type)} is not a schema type: use {', '.join(kind.value for kind in SchemaKind)}"
        ) from None
    label = f"{topic}_schema"[:SCHEMA_NAME_LENGTH_MAX]
    return Schema(label, kind, schema_data if kind is SchemaKind.JSON else "")


def _options(text: str | None, default_storage: StorageBackend) -> ReliableOptions:
    given: dict[str, Any] = {}
    for item in text.split(",") if text is not None else ():
        name, equals, value = item.partition("=")
        name = name.strip().lower()
        if not equals or name not in _OPTIONS:
            raise InvalidInput(
                f"{_shown(item)} is not an option of a reliable topic: use name=value with"
                f" {', '.join(_OPTIONS)}"
            )
        field, read = _OPTIONS[name]
        if field in given:
            raise InvalidInput(f"{name} is given twice")
        given[field] = read(name, value.strip())
    options = ReliableOptions(**{"storage": default_storage, **given})
    check_options(options)
    return options


def _number(least: int) -> Callable[[str, str], int]:
    def read(name: str, value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) <= DIGITS_MAX and int(value) >= least):
            raise InvalidInput(
                f"{name} must be a whole number from {least} on, of at most {DIGITS_MAX} digits, not"
                f" {_shown(value)}"
            )
        return int(value)

    return read


def _one_of(words: Mapping[str, Any]) -> Callable[[str, str], Any]:
    def read(name: str, value: str) -> Any:
        found = words.get(_folded(value))
        if found is None:
            raise InvalidInput(
                f"{name} must be one of {', '.join(dict.fromkeys(words.values()))}, not {_shown(value)}"
            )
        return found

    return read


def _text(_name: str, value: str) -> str:
    return value


_OPTIONS: Final[dict[str, tuple[str, Callable[[str, str], Any]]]] = {
    "segment_size": ("segment_size_mb", _number(1)),
    "storage": ("storage", _one_of(_STORAGE)),
    "storage_path": ("storage_path", _text),
    "retention": ("retention", _one_of(_RETENTION)),
    "retention_period": ("retention_period_s", _number(0)),
}


def _folded(word: str) -> str:
    return word.strip().lower().replace("-", "").replace("_", "")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
