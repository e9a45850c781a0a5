"""A topic's name, schema and dispatch strategy as command-line arguments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import typer

from danube_proto import danube_admin_pb2 as wire
from danube_terminal.choices import RetentionChoice, StorageChoice

RELIABLE = "reliable"
NON_RELIABLE = "non-reliable"
SCHEMA_TYPES = ("bytes", "string", "int64", "json")
DEFAULT_SCHEMA_TYPE = "String"
ANY_JSON = "{}"


def topic_name(text: str, namespace: str | None = None) -> str:
    """Return a name that has the form ``/namespace/topic``; the service may be stricter.

    Args:
        text: the name, without its first slash if that is left out, or only its last part if there is a
            ``namespace``.
        namespace: the namespace, if it was given by itself.

    Raises:
        typer.BadParameter: it has another form, or other characters than letters, digits, ``_`` and ``-``.
    """
    if not text.startswith("/") and text.count("/") == 1:
        text = f"/{text}"
    if namespace is not None:
        if text.startswith("/") and text.split("/")[1] != namespace:
            raise _bad(f"{text!r} is not in the namespace {namespace}")
        text = text if text.startswith("/") else f"/{namespace}/{text}"
    parts = text.split("/")
    if len(parts) != 3 or parts[0] or not all(parts[1:]):
        raise _bad(f"{text!r}: a topic is named /namespace/topic")
    if not all(letter.isalnum() or letter in "_-" for part in parts for letter in part):
        raise _bad(f"{text!r}: a topic's name has letters, digits, _ and - only")
    return text


def _bad(reason: str) -> typer.BadParameter:
    return typer.BadParameter(reason, param_hint="'TOPIC'")


def _word(strategy: str) -> str:
    """Return the word for a strategy, which the original also calls ``reliable_dispatch``."""
    return strategy.strip().lower().replace("_", "-").removesuffix("-dispatch")


Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="/namespace/topic")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", metavar="NAMESPACE", help="Of a topic named without it.")
]


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """The schema and the dispatch strategy of a new topic."""

    schema_type: Annotated[
        str | None,
        typer.Option(
            "--schema-type", "-s", metavar="TYPE", help="Bytes, String, Int64 or JSON; String if absent."
        ),
    ] = None
    schema_data: Annotated[
        str | None,
        typer.Option(
            "--schema-data",
            "-d",
            metavar="TEXT",
            help=f"The JSON Schema of a JSON topic; {ANY_JSON} if absent, which takes all JSON.",
        ),
    ] = None
    dispatch_strategy: Annotated[
        str,
        typer.Option(
            "--dispatch-strategy",
            metavar="STRATEGY",
            help="reliable, which stores messages, or non-reliable, which keeps nothing.",
        ),
    ] = RELIABLE
    storage: Annotated[
        StorageChoice | None,
        typer.Option(
            "--storage",
            help="Reliable: where segments are stored; if absent, the service's default_storage.",
        ),
    ] = None
    segment_size: Annotated[
        int | None,
        typer.Option(
            "--segment-size", metavar="MB", min=0, help="Reliable: when a segment is full; up to 64."
        ),
    ] = None
    retention: Annotated[
        RetentionChoice | None,
        typer.Option(
            "--retention",
            help="Reliable: kept until acknowledged (ack, the default), or for a time, read or not (expire).",
        ),
    ] = None
    retention_period: Annotated[
        int | None,
        typer.Option(
            "--retention-period",
            metavar="SECS",
            min=0,
            help="Reliable: the time; asks for --retention expire.",
        ),
    ] = None

    def to_wire(self) -> dict[str, str]:
        """Return the fields of a request that creates topics. Raises BadParameter."""
        self._check_schema()
        return {
            "schema_type": self.schema_type or DEFAULT_SCHEMA_TYPE,
            "schema_data": self.schema_data or ANY_JSON,
            "dispatch_strategy": self._strategy(),
        }

    def plain_strategy(self) -> wire.DispatchStrategy:
        """Return the strategy for a call with a subject. Raises BadParameter if it cannot have an option."""
        if self.schema_type is not None or self.schema_data is not None:
            raise typer.BadParameter(
                "give either a subject, or a type and its data", param_hint="'--schema-subject'"
            )
        name = _word(self.dispatch_strategy)
        given = (self.storage, self.segment_size, self.retention, self.retention_period)
        if name not in (RELIABLE, NON_RELIABLE) or any(one is not None for one in given):
            raise typer.BadParameter(
                "with --schema-subject a topic is reliable or non-reliable, without storage and retention",
                param_hint="'--dispatch-strategy'",
            )
        return wire.Reliable if name == RELIABLE else wire.NonReliable

    def _strategy(self) -> str:
        """``non-reliable``, or ``reliable:`` and the options: messages expire only if that is asked for."""
        name, colon, options_text = self.dispatch_strategy.strip().partition(":")
        name = _word(name)
        if name not in (RELIABLE, NON_RELIABLE) or (colon and name == NON_RELIABLE):
            raise typer.BadParameter(
                f"{self.dispatch_strategy!r} is neither reliable nor non-reliable",
                param_hint="'--dispatch-strategy'",
            )
        given = {
            "segment_size": self.segment_size,
            "storage": self.storage,
            "retention": self.retention,
            "retention_period": self.retention_period,
        }
        options = [f"{key}={value}" for key, value in given.items() if value is not None]
        if options and name == NON_RELIABLE:
            raise typer.BadParameter(
                "storage and retention are for --dispatch-strategy reliable",
                param_hint="'--dispatch-strategy'",
            )
        if name == NON_RELIABLE:
            return name
        if "retention" not in options_text and self.retention is None:
            options.append(f"retention={'ack' if self.retention_period is None else 'expire'}")
        return f"{name}:{','.join([*filter(None, [options_text.strip()]), *options])}"

    def _check_schema(self) -> None:
        kind = (self.schema_type or DEFAULT_SCHEMA_TYPE).lower()
        if kind not in SCHEMA_TYPES:
            raise typer.BadParameter(
                f"{self.schema_type!r} is none of Bytes, String, Int64 and JSON", param_hint="'--schema-type'"
            )
        if self.schema_data is not None:
            if kind != "json":
                raise typer.BadParameter("goes with --schema-type JSON", param_hint="'--schema-data'")
            try:
                json.loads(self.schema_data)
            except json.JSONDecodeError as error:
                raise typer.BadParameter(f"not JSON: {error}", param_hint="'--schema-data'") from error
