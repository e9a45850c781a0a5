"""``danube-cli schema``: the schema registry, at the client port."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from danube_cli.address import DEFAULT_ADDR, ServiceAddr
from danube_cli.outcome import EXIT_CODES, FAILED, OK, complain, run
from danube_terminal.choices import UINT32_MAX, Form, Output
from danube_terminal.option_groups import spelling, spread
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


@app.callback()
def group(
    service_addr: Annotated[str | None, spelling("--service-addr", "-s")] = None,
) -> None:
    """Take the address between the group and its command, too."""


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
    named = [tag.strip() for tag in tags.split(",") if tag.strip()]
    answer = _registered(context, service_addr, subject, definition, description=description, tags=named)
    kind = definition.kind()
    _show(output, {"success": True, "subject": subject, "schema_type": kind, **answer})


def _registered(
    context: typer.Context, service_addr: str, subject: str, definition: DefinitionOptions, **more: Any
) -> dict[str, Any]:
    return ask(
        context,
        service_addr,
        "RegisterSchema",
        subject=subject,
        schema_type=definition.kind(),
        schema_definition=definition.definition(),
        created_by="danube-cli",
        **more,
    )


def get(
    context: typer.Context,
    subject: Subject,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    version: Annotated[
        int | None, typer.Option("--version", "-v", metavar="N", min=1, max=UINT32_MAX)
    ] = None,
    output: Output = Form.table,
) -> None:
    """Show a version of a subject with its definition; without --version the latest."""
    answer = ask(context, service_addr, "GetLatestSchema", subject=subject)
    if version not in (None, answer["version"]):
        schema_id = answer["schema_id"]
        answer = ask(context, service_addr, "GetSchema", schema_id=schema_id, version=version)
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
    listed = ask(context, service_addr, "ListVersions", subject=subject)["versions"]
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
    answer = ask(
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


@dataclass(frozen=True, slots=True)
class SubjectOptions:
    """The subject of the schema registry that the topic of a producer gets."""

    schema_subject: Annotated[
        str | None,
        typer.Option(
            "--schema-subject",
            metavar="SUBJECT",
            help="A subject of the schema registry that the topic gets, instead of --schema.",
        ),
    ] = None
    schema_file: Annotated[
        str | None,
        typer.Option(
            "--schema-file",
            metavar="PATH",
            help="Register this definition first, as the subject NAMESPACE-TOPIC, and take that.",
        ),
    ] = None
    schema_type: Annotated[
        str | None,
        typer.Option(
            "--schema-type",
            metavar="TYPE",
            help="Of --schema-file: json_schema, avro or protobuf; if absent, by its name.",
        ),
    ] = None
    schema_version: Annotated[
        int | None,
        typer.Option(
            "--schema-version",
            metavar="N",
            min=1,
            max=UINT32_MAX,
            help="Send only if this is the subject's latest version.",
        ),
    ] = None
    schema_min_version: Annotated[
        int | None,
        typer.Option(
            "--schema-min-version",
            metavar="N",
            min=1,
            max=UINT32_MAX,
            help="Send only if the subject's latest version is this one or a later one.",
        ),
    ] = None

    def given(self) -> str | None:
        """Return the subject or the file that was given."""
        return self.schema_file if self.schema_subject is None else self.schema_subject

    def check(self) -> None:
        """Raise BadParameter if the options do not go together."""
        if self.schema_subject is not None and self.schema_file is not None:
            raise typer.BadParameter("give a subject or a file", param_hint="'--schema-file'")
        if self.schema_file is None and self.schema_type is not None:
            raise typer.BadParameter("goes with --schema-file", param_hint="'--schema-type'")
        versions = (self.schema_version, self.schema_min_version)
        if any(versions) and (all(versions) or self.schema_subject is None):
            raise typer.BadParameter(
                "one of them, with --schema-subject", param_hint="'--schema-version', '--schema-min-version'"
            )

    def subject(self, context: typer.Context, service_addr: str, topic: str) -> str | None:
        """Return the subject, which is registered if it is in a file; None if there is none.

        Ends the command if the subject is not at the version that was asked for.
        """
        if self.schema_file is not None:
            name = topic.removeprefix("/").replace("/", "-")
            definition = DefinitionOptions(self.schema_type, self.schema_file)
            _registered(context, service_addr, name, definition)
            return name
        wanted = self.schema_version or self.schema_min_version
        if wanted is not None:
            latest = ask(context, service_addr, "GetLatestSchema", subject=self.schema_subject)["version"]
            if latest < wanted or (self.schema_version is not None and latest != wanted):
                complain(
                    f"Error: the latest version of {self.schema_subject} is {latest}, not {wanted}: messages"
                    " are sent with the latest"
                )
                raise typer.Exit(FAILED)
        return self.schema_subject


def ask(context: typer.Context, service_addr: str, method: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of the registry's answer at the first address; ends the command if it fails."""
    security = tls(context)
    answers: list[Message] = []

    async def call() -> int:
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

    if code := run(call()):
        raise typer.Exit(code)
    return plain(answers[0])


def _show(form: Form, figures: dict[str, Any]) -> None:
    if form is Form.json:
        typer.echo(json.dumps(figures, ensure_ascii=False))
    else:
        typer.echo(", ".join(f"{name}: {value}" for name, value in figures.items()))
