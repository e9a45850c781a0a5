"""The options that say how messages are printed; ``consume``, ``peek`` and ``replay`` have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from danube_client import Message, SchemaType


class OutputChoice(StrEnum):
    """Forms of output."""

    text = "text"
    json = "json"
    length_prefixed = "length-prefixed"


OutputForm = Annotated[
    OutputChoice,
    typer.Option(
        "--output",
        "-o",
        help="json prints one object per line; length-prefixed the payload behind its length, as produce"
        " --input takes it.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="TEXT",
        help="Print each message like this, e.g. '%o %k %p\\n': %p payload, %S its bytes, %k key, %K its"
        " bytes, %o position, %t topic, %T time of publishing in ms, %n producer, %h attributes, %% a percent"
        " sign; \\n, \\t, \\r, \\0, \\xHH and \\\\ as usual.",
    ),
]
Raw = Annotated[bool, typer.Option("--raw", help="Print the payload's bytes and a newline only.")]


@dataclass(frozen=True, slots=True)
class Form:
    """How messages are printed.

    Attributes:
        show: prints one message.
        show_unfit: prints one that does not fit the schema, for which ``show`` raised the ValueError.
    """

    show: Callable[[Message, SchemaType], bytes]
    show_unfit: Callable[[Message, ValueError], bytes]


def form(output: OutputChoice, format_: str | None, *, raw: bool) -> Form:
    """Return the form that the options ask for.

    Raises:
        typer.BadParameter: they exclude each other, or the format is none.
    """
    from danube_cli import payload  # noqa: PLC0415 - slow to import, help needs nothing of it
    from danube_cli.template import template  # noqa: PLC0415

    if raw + (format_ is not None) + (output is not OutputChoice.text) > 1:
        raise typer.BadParameter("only one of them", param_hint="'--raw', '--format' and '--output'")
    if format_ is not None:
        try:
            show = template(format_)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="'--format'") from None
        return Form(lambda message, _schema: show(message), payload.as_escaped_line)
    if raw:
        return Form(payload.as_raw, payload.as_escaped_line)
    if output is OutputChoice.json:
        return Form(payload.as_json, payload.as_escaped_json)
    if output is OutputChoice.length_prefixed:
        return Form(payload.as_length_prefixed, payload.as_escaped_line)
    return Form(payload.as_line, payload.as_escaped_line)
