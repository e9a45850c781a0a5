"""The options that say what a schema is: its type, and its definition as a text or a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

DEFINITION_BYTES_MAX: Final = 256 * 1024
SUFFIXES: Final = {".avsc": "avro", ".proto": "protobuf", ".json": "json_schema"}
WITHOUT_DEFINITION: Final = ("bytes", "string", "number")
STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class DefinitionOptions:
    """A schema's type and definition."""

    schema_type: Annotated[
        str | None,
        typer.Option(
            "--schema-type",
            "-t",
            metavar="TYPE",
            help="bytes, string, number, avro, json_schema or protobuf; if absent, by the file's name.",
        ),
    ] = None
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="PATH", help="A file with the definition; - is stdin."),
    ] = None
    schema: Annotated[str | None, typer.Option("--schema", metavar="TEXT", help="The definition itself.")] = (
        None
    )

    def kind(self) -> str:
        """Return the type, by the file's name if it was not given. Raises BadParameter."""
        found = self.schema_type or SUFFIXES.get(Path(self.file or "").suffix.lower())
        if found is None:
            raise typer.BadParameter("give the schema's type", param_hint="'--schema-type'")
        return found

    def definition(self) -> bytes:
        """Return the definition. Raises BadParameter."""
        if self.file is not None and self.schema is not None:
            raise typer.BadParameter("give either a file or a text", param_hint="'--schema'")
        if self.schema is not None:
            return self.schema.encode()
        if self.file is None:
            if self.kind() in WITHOUT_DEFINITION:
                return b""
            raise typer.BadParameter("give a file or a text", param_hint="'--file'")
        try:
            if self.file == STDIN:
                data = sys.stdin.buffer.read(DEFINITION_BYTES_MAX + 1)
            else:
                with Path(self.file).open("rb") as file:
                    data = file.read(DEFINITION_BYTES_MAX + 1)
        except OSError as error:
            raise typer.BadParameter(f"{self.file}: {error.strerror}", param_hint="'--file'") from None
        if len(data) > DEFINITION_BYTES_MAX:
            raise typer.BadParameter(
                f"{self.file} is larger than {DEFINITION_BYTES_MAX} bytes", param_hint="'--file'"
            )
        return data
