"""``danube-cli schema``: the schema registry, at the client port."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from danube_cli.address import DEFAULT_ADDR, ServiceAddr
from danube_cli.outcome import EXIT_CODES, FAILED, OK, run
from danube_terminal.choices import UINT32_MAX, Form, Output
from danube_terminal.option_groups import spread
from danube_terminal.plain import plain
from danube_terminal.schema_options import DefinitionOptions
from danube_terminal.tls_options import tls

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.message import Message

SERVICE: Final = "SchemaRegistry"
TIMEOUT_S: Final = 30.0

app = typer.Typer(
    help="Register, show and check schemas of the registry.", no_args_is_help=True, rich_markup_mode=None
)

Subject = Annotated[str, typer.Argument(metavar="SUBJECT")]

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


def register(
    context: typer.Context,
    subject: Subject,
    definition: DefinitionOptions,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    description: Annotated[str, typer.Option("--description", metavar="TEXT")] = "",
    tags: Annotated[str, typer.Option("--tags", metavar="TAG,...")] = "",
    output: Output = Form.table,
) -> None:
    """Add a version to a subject."""
    answer = _ask(
        context,
        service_addr,
        "RegisterSchema",
        subject=subject,
        schema_type=definition.kind(),
        schema_definition=definition.definition(),
        description=description,
        created_by="danube-cli",
        tags=[tag.strip() for tag in tags.split(",") if tag.strip()],
    )
    _show(output, {"subject": subject, **answer})


def get(
    context: typer.Context,
    subject: Subject,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    version: Annotated[int | None, typer.Option("--version", metavar="N", min=1, max=UINT32_MAX)] = None,
    output: Output = Form.table,
) -> None:
    """Show a version of a subject with its definition; without --version the latest."""
    answer = _ask(context, service_addr, "GetLatestSchema", subject=subject)
    if version not in (None, answer["version"]):
        schema_id = answer["schema_id"]
        answer = _ask(context, service_addr, "GetSchema", schema_id=schema_id, version=version)
    definition = answer.pop("schema_definition")
    try:
        name, text = "schema_definition", definition.decode()
    except UnicodeDecodeError:
        name, text = "schema_definition_base64", base64.b64encode(definition).decode()
    if output is Form.json:
        _show(output, {**answer, name: text})
    else:
        _show(output, answer)
        typer.echo(text)


def versions(
    context: typer.Context,
    subject: Subject,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    output: Output = Form.table,
) -> None:
    """List the versions of a subject."""
    listed = _ask(context, service_addr, "ListVersions", subject=subject)["versions"]
    if output is Form.json:
        numbers = [version["version"] for version in listed]
        figures = {"subject": subject, "versions": numbers, "count": len(numbers), "details": listed}
        _show(output, figures)
    else:
        for version in listed:
            _show(output, version)


def check(
    context: typer.Context,
    subject: Subject,
    definition: DefinitionOptions,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    mode: Annotated[
        str | None,
        typer.Option("--mode", metavar="MODE", help="Try this compatibility mode, not the subject's."),
    ] = None,
    output: Output = Form.table,
) -> None:
    """Tell whether a schema can become the next version."""
    answer = _ask(
        context,
        service_addr,
        "CheckCompatibility",
        subject=subject,
        schema_type=definition.kind(),
        new_schema_definition=definition.definition(),
        compatibility_mode=mode,
    )
    if output is Form.json:
        _show(output, {"subject": subject, **answer})
    else:
        typer.echo(f"Compatible: {str(answer['is_compatible']).lower()}")
        for error in answer["errors"]:
            typer.echo(f"  {error}")
    if not answer["is_compatible"]:
        raise typer.Exit(FAILED)


for help_text, command in (
    (REGISTER_HELP, register),
    (GET_HELP, get),
    (VERSIONS_HELP, versions),
    (CHECK_HELP, check),
):
    app.command(help=help_text)(spread(command))


def _ask(context: typer.Context, service_addr: str, method: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of the registry's answer at the first address; ends the command if it fails."""
    security = tls(context)
    answers: list[Message] = []

    async def ask() -> int:
        from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415 - slow to import

        from danube_client.calls import Unary  # noqa: PLC0415
        from danube_client.connection import normalized, open_channel  # noqa: PLC0415
        from danube_client.errors import CallError  # noqa: PLC0415
        from danube_proto.danube_schema_pb2 import DESCRIPTOR  # noqa: PLC0415

        called = DESCRIPTOR.services_by_name[SERVICE].methods_by_name[method]
        request, answer = GetMessageClass(called.input_type), GetMessageClass(called.output_type)
        address = normalized(service_addr.split(",", maxsplit=1)[0])
        channel = open_channel(address, security)
        try:
            multi: grpc.aio.UnaryUnaryMultiCallable[Message, Message] = channel.unary_unary(
                f"/{called.containing_service.full_name}/{method}",
                request.SerializeToString,
                answer.FromString,
            )
            answers.append(await Unary(multi, address, TIMEOUT_S, CallError)(request(**fields)))
        finally:
            await channel.close()
        return OK

    if code := run(ask()):
        raise typer.Exit(code)
    return plain(answers[0])


def _show(form: Form, figures: dict[str, Any]) -> None:
    if form is Form.json:
        typer.echo(json.dumps(figures, ensure_ascii=False))
    else:
        typer.echo(", ".join(f"{name}: {value}" for name, value in figures.items()))
