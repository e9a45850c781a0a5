"""``danube-cli schema``: the schema registry, at the client port."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

import typer

from danube_cli.address import DEFAULT_ADDR, ServiceAddr
from danube_cli.outcome import EXIT_CODES, FAILED, OK, run
from danube_terminal.tls_options import tls

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.message import Message

Answer = TypeVar("Answer", bound="Message")

Call = Callable[[str, "Message", type[Any]], Awaitable[Any]]
"""Calls a method of the registry with a request; returns an answer of the type."""

SERVICE: Final = "/danube_schema.SchemaRegistry"
DEFINITION_BYTES_MAX: Final = 256 * 1024
TIMEOUT_S: Final = 30.0
SUFFIXES: Final = {".avsc": "avro", ".proto": "protobuf", ".json": "json_schema"}
WITHOUT_DEFINITION: Final = ("bytes", "string", "number")
STDIN: Final = "-"

app = typer.Typer(
    help="Register, show and check schemas of the registry.", no_args_is_help=True, rich_markup_mode=None
)


class Form(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


Subject = Annotated[str, typer.Argument(metavar="SUBJECT")]
Output = Annotated[Form, typer.Option("--output", "-o", help="How results are printed.")]
Kind = Annotated[
    str | None,
    typer.Option(
        "--schema-type",
        metavar="TYPE",
        help="bytes, string, number, avro, json_schema or protobuf; if absent, by the file's name.",
    ),
]
File = Annotated[
    str | None, typer.Option("--file", "-f", metavar="PATH", help="A file with the definition; - is stdin.")
]
Text = Annotated[str | None, typer.Option("--schema", metavar="TEXT", help="The definition itself.")]

REGISTER_HELP = f"""Add a version to a subject, or find the version that is the same.

\b
Examples:
  danube-cli schema register orders -s http://127.0.0.1:6650 --file orders.avsc
  danube-cli schema register names -s http://127.0.0.1:6650 --schema-type avro --schema '"string"'

\b
{EXIT_CODES}
"""
GET_HELP = f"""Show a version of a subject with its definition; without --version the latest.

\b
Examples:
  danube-cli schema get orders -s http://127.0.0.1:6650
  danube-cli schema get orders --version 2 -o json

\b
{EXIT_CODES}
"""
VERSIONS_HELP = f"""List the versions of a subject.

\b
Examples:
  danube-cli schema versions orders -s http://127.0.0.1:6650

\b
{EXIT_CODES}
"""
CHECK_HELP = f"""Tell whether a schema can become the next version of a subject; nothing is changed.

Ends with exit code 1 and the reasons if it cannot.

\b
Examples:
  danube-cli schema check orders -s http://127.0.0.1:6650 --file orders.avsc
  danube-cli schema check orders -s http://127.0.0.1:6650 --file orders.avsc --mode full -o json

\b
{EXIT_CODES}
"""


@app.command(help=REGISTER_HELP)
def register(
    context: typer.Context,
    subject: Subject,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    schema_type: Kind = None,
    file: File = None,
    schema: Text = None,
    description: Annotated[str, typer.Option("--description", metavar="TEXT")] = "",
    tags: Annotated[str, typer.Option("--tags", metavar="TAG,...")] = "",
    output: Output = Form.table,
) -> None:
    """Add a version to a subject."""
    kind, definition = _definition(schema_type, file, schema)

    async def register_it(call: Call) -> int:
        from danube_proto import danube_schema_pb2 as wire  # noqa: PLC0415 - slow to import

        request = wire.RegisterSchemaRequest(
            subject=subject,
            schema_type=kind,
            schema_definition=definition,
            description=description,
            created_by="danube-cli",
            tags=[tag.strip() for tag in tags.split(",") if tag.strip()],
        )
        answer = await call("RegisterSchema", request, wire.RegisterSchemaResponse)
        _show(output, {"subject": subject, **_plain(answer)})
        return OK

    _run(context, service_addr, register_it)


@app.command(help=GET_HELP)
def get(
    context: typer.Context,
    subject: Subject,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    version: Annotated[int | None, typer.Option("--version", metavar="N", min=1)] = None,
    output: Output = Form.table,
) -> None:
    """Show a version of a subject with its definition; without --version the latest."""

    async def get_it(call: Call) -> int:
        from danube_proto import danube_schema_pb2 as wire  # noqa: PLC0415 - slow to import

        latest = wire.GetLatestSchemaRequest(subject=subject)
        answer = await call("GetLatestSchema", latest, wire.GetSchemaResponse)
        if version not in (None, answer.version):
            request = wire.GetSchemaRequest(schema_id=answer.schema_id, version=version)
            answer = await call("GetSchema", request, wire.GetSchemaResponse)
        figures = _plain(answer)
        definition = figures.pop("schema_definition")
        try:
            name, text = "schema_definition", definition.decode()
        except UnicodeDecodeError:
            name, text = "schema_definition_base64", base64.b64encode(definition).decode()
        if output is Form.json:
            typer.echo(json.dumps({**figures, name: text}, ensure_ascii=False))
        else:
            _show(output, figures)
            typer.echo(text)
        return OK

    _run(context, service_addr, get_it)


@app.command(help=VERSIONS_HELP)
def versions(
    context: typer.Context,
    subject: Subject,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    output: Output = Form.table,
) -> None:
    """List the versions of a subject."""

    async def list_them(call: Call) -> int:
        from danube_proto import danube_schema_pb2 as wire  # noqa: PLC0415 - slow to import

        request = wire.ListVersionsRequest(subject=subject)
        answer = await call("ListVersions", request, wire.ListVersionsResponse)
        listed = [_plain(version) for version in answer.versions]
        if output is Form.json:
            typer.echo(json.dumps(listed, ensure_ascii=False))
        else:
            for version in listed:
                _show(output, version)
        return OK

    _run(context, service_addr, list_them)


@app.command(help=CHECK_HELP)
def check(
    context: typer.Context,
    subject: Subject,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    schema_type: Kind = None,
    file: File = None,
    schema: Text = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", metavar="MODE", help="Try this compatibility mode, not the subject's."),
    ] = None,
    output: Output = Form.table,
) -> None:
    """Tell whether a schema can become the next version."""
    kind, definition = _definition(schema_type, file, schema)

    async def check_it(call: Call) -> int:
        from danube_proto import danube_schema_pb2 as wire  # noqa: PLC0415 - slow to import

        request = wire.CheckCompatibilityRequest(
            subject=subject, schema_type=kind, new_schema_definition=definition, compatibility_mode=mode
        )
        answer = await call("CheckCompatibility", request, wire.CheckCompatibilityResponse)
        if output is Form.json:
            typer.echo(json.dumps(_plain(answer), ensure_ascii=False))
        else:
            typer.echo(f"Compatible: {str(answer.is_compatible).lower()}")
            for error in answer.errors:
                typer.echo(f"  {error}")
        return OK if answer.is_compatible else FAILED

    _run(context, service_addr, check_it)


def _run(context: typer.Context, service_addr: str, command: Callable[[Call], Awaitable[int]]) -> None:
    """Connect to the first address that is given and run the command."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    security = tls(context)

    async def connected() -> int:
        from danube_client.calls import Unary  # noqa: PLC0415 - slow to import
        from danube_client.connection import normalized, open_channel  # noqa: PLC0415
        from danube_client.errors import CallError  # noqa: PLC0415

        address = normalized(service_addr.split(",", maxsplit=1)[0])
        channel = open_channel(address, security)
        try:

            async def call(method: str, request: Message, answer: type[Answer]) -> Answer:
                multi: grpc.aio.UnaryUnaryMultiCallable[Message, Answer] = channel.unary_unary(
                    f"{SERVICE}/{method}", type(request).SerializeToString, answer.FromString
                )
                return await Unary(multi, address, TIMEOUT_S, CallError)(request)

            return await command(call)
        finally:
            await channel.close()

    raise typer.Exit(run(connected()))


def _definition(kind: str | None, file: str | None, text: str | None) -> tuple[str, bytes]:
    """Return the type and the definition that the options name. Raises typer.BadParameter."""
    if file is not None and text is not None:
        raise typer.BadParameter("give either a file or a text", param_hint="'--schema'")
    kind = kind or SUFFIXES.get(Path(file or "").suffix.lower())
    if kind is None:
        raise typer.BadParameter("give the schema's type", param_hint="'--schema-type'")
    if text is not None:
        return kind, text.encode()
    if file is None:
        if kind in WITHOUT_DEFINITION:
            return kind, b""
        raise typer.BadParameter("give a file or a text", param_hint="'--file'")
    try:
        if file == STDIN:
            data = sys.stdin.buffer.read(DEFINITION_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(DEFINITION_BYTES_MAX + 1)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="'--file'") from None
    if len(data) > DEFINITION_BYTES_MAX:
        raise typer.BadParameter(f"{file} is larger than {DEFINITION_BYTES_MAX} bytes", param_hint="'--file'")
    return kind, data


def _show(form: Form, figures: dict[str, Any]) -> None:
    if form is Form.json:
        typer.echo(json.dumps(figures, ensure_ascii=False))
    else:
        typer.echo(", ".join(f"{name}: {value}" for name, value in figures.items()))


def _plain(message: Message) -> dict[str, Any]:
    """Return a message as a dict of all its fields, defaults included; 64-bit numbers stay numbers."""
    names = [field.name for field in cast("Any", message.DESCRIPTOR).fields]
    return {
        name: list(value) if hasattr(value := getattr(message, name), "append") else value for name in names
    }
