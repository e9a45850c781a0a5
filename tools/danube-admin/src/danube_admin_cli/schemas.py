"""``danube-admin schemas``: the schema registry."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final

import typer

from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import FAILED, USAGE, Yes, confirm, give_up
from danube_admin_cli.printing import (
    show_figures,
    show_json,
    show_section,
    show_success,
    show_table,
    show_text,
)
from danube_proto import danube_schema_pb2 as wire
from danube_terminal.choices import UINT32_MAX, UINT64_MAX
from danube_terminal.option_groups import agreed, spelling
from danube_terminal.plain import moment, plain
from danube_terminal.schema_options import DefinitionOptions

commands = Commands()

SERVICE: Final = "/danube_schema.SchemaRegistry"

Subject = Annotated[str, typer.Argument(metavar="SUBJECT")]
Version = Annotated[int | None, typer.Option("--version", metavar="N", min=1, max=UINT32_MAX)]

REGISTER_HELP = """Add a version to a subject, or find the version that is the same.

The type is known from the file's name if it ends in .avsc, .proto or .json.

\b
Examples:
  danube-admin schemas register orders --file orders.avsc --tags billing,eu
  danube-admin schemas register orders --schema-type json_schema --schema '{"type": "object"}'
  protoc --include_imports --descriptor_set_out=/dev/stdout order.proto |
      danube-admin schemas register orders --schema-type protobuf --file -
"""
CHECK_HELP = """Tell whether a schema can become the next version of a subject; nothing is changed.

Ends with exit code 1 and the reasons if it cannot.

\b
Examples:
  danube-admin schemas check orders --file orders.avsc
  danube-admin schemas check orders --file orders.avsc --mode full_transitive -o json
"""


@commands.command("register", help_text=REGISTER_HELP)
def register(
    session: Session,
    subject: Subject,
    definition: DefinitionOptions,
    description: Annotated[str, typer.Option("--description", metavar="TEXT")] = "",
    created_by: Annotated[str, typer.Option("--created-by", metavar="NAME")] = "danube-admin",
    tags: Annotated[
        list[str] | None, typer.Option("--tags", metavar="TAG,...", help="May be given several times.")
    ] = None,
) -> None:
    """Add a version to a subject."""
    request = wire.RegisterSchemaRequest(
        subject=subject,
        schema_type=definition.kind(),
        schema_definition=definition.definition(),
        description=description,
        created_by=created_by,
        tags=[tag.strip() for given in tags or [] for tag in given.split(",") if tag.strip()],
    )
    answer = session.call(f"{SERVICE}/RegisterSchema", request, wire.RegisterSchemaResponse)
    show_figures(session.form, {"subject": subject, **plain(answer)})


@commands.command("get")
def get(
    session: Session,
    subject: Annotated[str | None, typer.Argument(metavar="[SUBJECT]")] = None,
    named: Annotated[str | None, typer.Option("--subject", metavar="SUBJECT")] = None,
    schema_id: Annotated[int | None, typer.Option("--id", metavar="ID", min=1, max=UINT64_MAX)] = None,
    version: Version = None,
) -> None:
    """Show a version of a subject with its definition; without --version the latest."""
    name = subject or named
    if (name is None) == (schema_id is None) or named not in (None, name):
        give_up("give either a subject or --id", USAGE)
    answer = None
    if name is not None:
        answer = _latest(session, name)
        schema_id = answer.schema_id
    if answer is None or version not in (None, answer.version):
        request = wire.GetSchemaRequest(schema_id=schema_id, version=version)
        answer = session.call(f"{SERVICE}/GetSchema", request, wire.GetSchemaResponse)
    fields = plain(answer)
    fields["compatibility_mode"] = answer.compatibility_mode.upper()
    try:
        text = answer.schema_definition.decode()
        fields["schema_definition"] = text
    except UnicodeDecodeError:
        del fields["schema_definition"]
        text = fields["schema_definition_base64"] = base64.b64encode(answer.schema_definition).decode()
    if session.form.value == "json":
        show_json(fields)
        return
    show_section(
        f"{answer.subject}, version {answer.version}",
        {
            "Schema id": str(answer.schema_id),
            "Type": answer.schema_type,
            "Compatibility": fields["compatibility_mode"],
            "Fingerprint": answer.fingerprint,
            "Created": f"{moment(answer.created_at * 1000)} {answer.created_by}",
            "Description": answer.description,
            "Tags": ", ".join(answer.tags),
        },
    )
    show_text(text)


@commands.command("versions")
def versions(session: Session, subject: Subject) -> None:
    """List the versions of a subject."""
    answer = session.call(
        f"{SERVICE}/ListVersions", wire.ListVersionsRequest(subject=subject), wire.ListVersionsResponse
    )
    if session.form.value == "json":
        show_json([plain(each) for each in answer.versions])
        return
    columns = {"version": "VERSION", "created": "CREATED", "by": "BY", "description": "DESCRIPTION"}
    rows = [
        {
            "version": str(each.version),
            "created": moment(each.created_at * 1000),
            "by": each.created_by,
            "description": " ".join(each.description.split()),
        }
        for each in answer.versions
    ]
    show_table(session.form, columns, rows)


@commands.command("check", help_text=CHECK_HELP)
def check(
    session: Session,
    subject: Subject,
    definition: DefinitionOptions,
    mode: Annotated[
        str | None,
        typer.Option("--mode", metavar="MODE", help="Try this compatibility mode, not the subject's."),
    ] = None,
) -> None:
    """Tell whether a schema can become the next version."""
    request = wire.CheckCompatibilityRequest(
        subject=subject,
        schema_type=definition.kind(),
        new_schema_definition=definition.definition(),
        compatibility_mode=mode,
    )
    answer = session.call(f"{SERVICE}/CheckCompatibility", request, wire.CheckCompatibilityResponse)
    if session.form.value == "json":
        show_json(plain(answer))
    else:
        show_text(f"Compatible: {str(answer.is_compatible).lower()}")
        for error in answer.errors:
            show_text(f"  {error}")
    if not answer.is_compatible:
        raise typer.Exit(FAILED)


@commands.command("get-compatibility")
def get_compatibility(session: Session, subject: Subject) -> None:
    """Show the compatibility mode of a subject."""
    mode = _latest(session, subject).compatibility_mode.upper()
    show_figures(session.form, {"subject": subject, "compatibility_mode": mode})


@commands.command("set-compatibility")
def set_compatibility(
    session: Session,
    subject: Subject,
    mode: Annotated[
        str | None,
        typer.Argument(
            metavar="MODE", help="none, backward, forward or full; the last three also with _transitive."
        ),
    ] = None,
    mode_option: Annotated[str | None, spelling("--mode")] = None,
) -> None:
    """Set what new versions of a subject have to keep; the present ones are not checked again."""
    request = wire.SetCompatibilityModeRequest(
        subject=subject, compatibility_mode=agreed("MODE", mode, mode_option)
    )
    answer = session.call(f"{SERVICE}/SetCompatibilityMode", request, wire.SetCompatibilityModeResponse)
    show_success(session.form, "Compatibility Set", success=answer.success)


@commands.command("delete")
def delete(
    session: Session,
    subject: Subject,
    version: Annotated[int, typer.Option("--version", metavar="N", min=1, max=UINT32_MAX)],
    yes: Yes = False,
) -> None:
    """Delete a version of a subject. Its number is not used again."""
    confirm(f"Delete version {version} of {subject}?", yes=yes)
    request = wire.DeleteSchemaVersionRequest(subject=subject, version=version)
    answer = session.call(f"{SERVICE}/DeleteSchemaVersion", request, wire.DeleteSchemaVersionResponse)
    show_success(session.form, "Version Deleted", success=answer.success)


@commands.command("list-subjects")
def list_subjects(session: Session) -> None:
    """List all subjects with their latest versions."""
    answer = session.call(f"{SERVICE}/ListSubjects", wire.ListSubjectsRequest(), wire.ListSubjectsResponse)
    listed: list[dict[str, Any]] = [
        {**plain(each), "compatibility_mode": each.compatibility_mode.upper()} for each in answer.subjects
    ]
    if session.form.value == "json":
        show_json(listed)
        return
    columns = {
        "subject": "SUBJECT",
        "schema_type": "TYPE",
        "latest_version": "VERSION",
        "compatibility_mode": "COMPATIBILITY",
        "schema_id": "ID",
        "tags": "TAGS",
    }
    rows = [
        {**{name: str(value) for name, value in each.items()}, "tags": ",".join(each["tags"])}
        for each in listed
    ]
    show_table(session.form, columns, rows)


def _latest(session: Session, subject: str) -> wire.GetSchemaResponse:
    request = wire.GetLatestSchemaRequest(subject=subject)
    return session.call(f"{SERVICE}/GetLatestSchema", request, wire.GetSchemaResponse)
