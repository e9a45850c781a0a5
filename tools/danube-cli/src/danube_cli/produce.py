"""``danube-cli produce``: its options and their checks."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danube_cli.address import DEFAULT_ADDR, DEFAULT_TOPIC, ServiceAddr, Topic
from danube_cli.outcome import EXIT_CODES, run
from danube_cli.schema import SubjectOptions
from danube_terminal.choices import UINT32_MAX, UINT64_MAX, RetentionChoice, StorageChoice
from danube_terminal.option_groups import refused
from danube_terminal.tls_options import tls

if TYPE_CHECKING:
    from danube_cli.inputs.splitter import Splitter
    from danube_client import Schema, Strategy

SCHEMA_NAME = "my_app"
INTERVAL_MS_MIN = 100
SEGMENT_SIZE_MB = 20
NO_SUBJECT = SubjectOptions()


class SchemaChoice(StrEnum):
    """Schema types as words of the command line."""

    bytes = "bytes"
    string = "string"
    int64 = "int64"
    json = "json"


class InputChoice(StrEnum):
    """What is in a file, as words of the command line."""

    lines = "lines"
    csv = "csv"
    length_prefixed = "length-prefixed"
    whole = "whole"


class CompressChoice(StrEnum):
    """Compressions of batches, as words of the command line."""

    none = "none"
    lz4 = "lz4"
    zstd = "zstd"


HELP = f"""Send messages to a topic, which is created if it is new.

A new topic is reliable: its messages are kept until every subscription has acknowledged them. --retention
expire or --retention-period keeps them for a time instead, --non-reliable keeps nothing. A topic that exists
is taken as it is; a schema or strategy that is given must be equal to what it has. If no consumer of a
non-reliable topic is connected when sending begins or ends, a warning on stderr says so.

Messages come from --message or --file (`-` is stdin). They are sent as fast as the platform accepts them,
unless --interval spaces them out. For each --message its ID is printed: its position in the topic, with which
consume --from and replay begin (on a platform without native streaming, its sequence id). For --file the
progress is shown on stderr.

\b
What is in the file says --input:
  lines            one message a line; a carriage return at its end belongs to it, but not to an int64
  csv              rows become JSON objects of texts, named by the first row
  length-prefixed  four bytes, the highest first, say how long the message behind them is
  whole            one message, the bytes of the file; --count and --interval send it again

When the connection is lost, the command waits for the platform, and says so on stderr; each message is stored
once. An interrupt ends it after what is on its way was answered.

\b
Examples:
  danube-cli produce -s http://127.0.0.1:6650 -t /default/news -m hello
  danube-cli produce -s http://127.0.0.1:6650 -m hello --count 100 --interval 500
  danube-cli produce -s http://127.0.0.1:6650 -y json --json-schema '{{"type": "object"}}' -m '{{"a": 1}}'
  danube-cli produce -s http://127.0.0.1:6650 -y json --json-schema @order.schema.json --file orders.jsonl
  danube-cli produce -s http://127.0.0.1:6650 -t /default/orders --schema-subject orders --file orders.jsonl
  danube-cli produce -s http://127.0.0.1:6650 -t /default/orders --file orders.csv --input csv --key-field id
  danube-cli produce -s http://127.0.0.1:6650 -t /default/orders --file orders.jsonl --compress zstd
  danube-cli produce -s http://127.0.0.1:6650 -m hi --storage disk --retention-period 86400
  danube-cli produce -s http://127.0.0.1:6650 -t /default/glances -m hi --non-reliable
  danube-cli produce -s http://127.0.0.1:6650 -m hi -a "key1:value1,key2:value2"
  danube-cli --ca ca.pem produce -s https://danube.example:6650 -m hi
  zcat events.gz | danube-cli produce -s http://127.0.0.1:6650 -t /default/events --file -

\b
{EXIT_CODES}
"""


def produce(
    context: typer.Context,
    service_addr: ServiceAddr = DEFAULT_ADDR,
    producer_name: Annotated[
        str | None,
        typer.Option(
            "--producer-name", "-n", metavar="NAME", help="The producer's name; if absent, a new one."
        ),
    ] = None,
    topic: Topic = DEFAULT_TOPIC,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="The message, sent as UTF-8.")
    ] = None,
    file: Annotated[
        typer.FileBinaryRead | None,
        typer.Option("--file", metavar="FILE", help="Send the messages of a file; - is stdin."),
    ] = None,
    input_: Annotated[
        InputChoice, typer.Option("--input", help="What is in the file; see above.")
    ] = InputChoice.lines,
    schema: Annotated[
        SchemaChoice | None,
        typer.Option("--schema", "-y", help="What the payloads are; string if absent and the topic is new."),
    ] = None,
    json_schema: Annotated[
        str | None,
        typer.Option(
            "--json-schema",
            metavar="TEXT",
            help="The JSON Schema, needed with json; @FILE reads it from a file.",
        ),
    ] = None,
    registry: SubjectOptions = NO_SUBJECT,
    attributes: Annotated[
        str | None,
        typer.Option("--attributes", "-a", metavar="K:V,...", help="Attributes of every message."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="The routing key of every message: it chooses the partition, and the consumer of a"
            " key-shared subscription.",
        ),
    ] = None,
    key_field: Annotated[
        str | None,
        typer.Option(
            "--key-field",
            metavar="FIELD",
            help="Take the key of each message from this field of its JSON object.",
        ),
    ] = None,
    compress: Annotated[
        CompressChoice, typer.Option("--compress", help="Compress what is on its way to the platform.")
    ] = CompressChoice.none,
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions",
            "-p",
            metavar="N",
            min=1,
            max=UINT32_MAX,
            help="Spread over so many partitions, which are created if the topic is new; a topic that has"
            " partitions keeps their number. If absent, over those that it has.",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-c", metavar="N", min=1, help="How often to send one message.")
    ] = 1,
    interval: Annotated[
        int | None,
        typer.Option(
            "--interval",
            "-i",
            metavar="MS",
            min=INTERVAL_MS_MIN,
            help="Milliseconds between messages; none if absent.",
        ),
    ] = None,
    in_flight: Annotated[
        int | None,
        typer.Option(
            "--in-flight",
            metavar="N",
            min=1,
            help="Unanswered messages at a time; as many as go into 32 MiB if absent. On a platform without"
            " native streaming 1 keeps the order through failures.",
        ),
    ] = None,
    wait_max: Annotated[
        float | None,
        typer.Option(
            "--wait-max",
            metavar="SECS",
            min=0,
            help="End with code 3 when the platform is away for longer; wait without end if absent.",
        ),
    ] = None,
    reliable: Annotated[
        bool | None,
        typer.Option(
            "--reliable/--non-reliable",
            help="Whether the topic stores its messages; a new one does. The options below say how.",
        ),
    ] = None,
    storage: Annotated[
        StorageChoice | None,
        typer.Option("--storage", help="Where its segments are stored; if absent, the platform's default."),
    ] = None,
    segment_size: Annotated[
        int | None,
        typer.Option(
            "--segment-size",
            metavar="MB",
            min=0,
            max=UINT32_MAX,
            help="When a segment is full, at most 64; 20 if absent.",
        ),
    ] = None,
    retention: Annotated[
        RetentionChoice | None,
        typer.Option(
            "--retention",
            help="Kept until acknowledged (ack, the default), or for a time, read or not (expire).",
        ),
    ] = None,
    retention_period: Annotated[
        int | None,
        typer.Option(
            "--retention-period",
            metavar="SECS",
            min=0,
            max=UINT64_MAX,
            help="The time; asks for --retention expire. 3600 if absent.",
        ),
    ] = None,
    _file: Annotated[
        str | None, refused("-f", "say --file FILE, which sends its lines, with --input whole one message")
    ] = None,
) -> None:
    """Check the options and run the command."""
    if (message is None) == (file is None):
        raise typer.BadParameter(
            "give either --message or --file", param_hint="'-m' / '--message' / '--file'"
        )
    by_records = file is not None and input_ is not InputChoice.whole
    if by_records and (count != 1 or interval is not None):
        raise typer.BadParameter(
            "--count and --interval go with --message, or --input whole", param_hint="'--file'"
        )
    if file is None and input_ is not InputChoice.lines:
        raise typer.BadParameter("goes with --file", param_hint="'--input'")
    if key is not None and key_field is not None:
        raise typer.BadParameter("give either --key or --key-field", param_hint="'--key-field'")
    registry.check()
    check_schema(schema, json_schema, registry.given())
    pairs = parse_attributes(attributes or "")
    options = (storage, segment_size, retention, retention_period)
    if reliable is False and any(option is not None for option in options):
        raise typer.BadParameter(
            "storage and retention are for reliable topics", param_hint="'--non-reliable'"
        )

    from danube_cli import payload as payloads  # noqa: PLC0415 - slow to import, help needs nothing of it
    from danube_cli.inputs.source import Source, whole  # noqa: PLC0415
    from danube_cli.sending import Job, Text, send  # noqa: PLC0415
    from danube_client import Compression, Schema  # noqa: PLC0415

    the_schema = wire_schema(schema, json_schema)
    source: Text | Source
    if file is not None and by_records:
        source = Source(file, splitter(input_))
    else:
        try:
            payload = whole(file) if file is not None else (message or "").encode(errors="surrogateescape")
            if the_schema is not None:
                payloads.check(payload, the_schema.type)
            if key_field is not None:
                payloads.key_in(payload, key_field)
        except ValueError as error:
            hint = "'--message'" if file is None else "'--file'"
            raise typer.BadParameter(str(error), param_hint=hint) from error
        source = Text(payload, count, (interval or 0) / 1000)
    if subject := registry.subject(context, service_addr, topic):
        the_schema = Schema.registered(subject)
    job = Job(
        addresses=service_addr.split(","),
        tls=tls(context),
        topic=topic,
        producer_name=producer_name,
        schema=the_schema,
        strategy=strategy(reliable, *options),
        partitions=partitions,
        in_flight_max=in_flight,
        attributes=pairs,
        key=key,
        key_field=key_field,
        compression=Compression[compress.name.upper()],
        away_s_max=wait_max,
        source=source,
    )
    raise typer.Exit(run(send(job)))


def splitter(choice: InputChoice) -> Splitter:
    """Return what cuts a file into messages."""
    from danube_cli.inputs.csv_rows import CsvRows  # noqa: PLC0415
    from danube_cli.inputs.length_prefixed import LengthPrefixed  # noqa: PLC0415
    from danube_cli.inputs.lines import Lines  # noqa: PLC0415

    kinds: dict[InputChoice, Callable[[], Splitter]] = {
        InputChoice.lines: Lines,
        InputChoice.csv: CsvRows,
        InputChoice.length_prefixed: LengthPrefixed,
    }
    return kinds[choice]()


def check_schema(choice: SchemaChoice | None, json_schema: str | None, subject: str | None) -> None:
    """Check that the options of the schema go together.

    Raises:
        typer.BadParameter: they do not.
    """
    if choice is SchemaChoice.json and json_schema is None:
        raise typer.BadParameter("needed with --schema json", param_hint="'--json-schema'")
    if choice is not SchemaChoice.json and json_schema is not None:
        raise typer.BadParameter("goes with --schema json", param_hint="'--json-schema'")
    # It has no name if a variable of the shell is not set.
    if subject is not None and (choice is not None or not subject):
        raise typer.BadParameter("give a subject's name, and no --schema", param_hint="'--schema-subject'")


def parse_attributes(text: str) -> dict[str, str]:
    """Parse ``k:v,k2:v2``; a value may contain colons.

    Raises:
        typer.BadParameter: a pair has no colon or no key.
    """
    pairs = {}
    for part in filter(str.strip, text.split(",")):
        key, colon, value = part.partition(":")
        if not colon or not key.strip():
            raise typer.BadParameter(f"{part.strip()!r} is not key:value", param_hint="'--attributes'")
        pairs[key.strip()] = value.strip()
    return pairs


def wire_schema(choice: SchemaChoice | None, json_schema: str | None) -> Schema | None:
    """Return the schema of a new topic, or None to accept any.

    Raises:
        typer.BadParameter: the JSON Schema is not JSON, or its file cannot be read.
    """
    import orjson  # noqa: PLC0415

    from danube_client import Schema, SchemaType  # noqa: PLC0415

    if choice is None:
        return None
    if choice is SchemaChoice.json:
        try:
            if json_schema is not None and json_schema.startswith("@"):
                json_schema = Path(json_schema[1:]).read_text(encoding="utf-8")
            orjson.loads(json_schema or "")
        except OSError as error:
            raise typer.BadParameter(str(error), param_hint="'--json-schema'") from error
        except ValueError as error:
            raise typer.BadParameter(f"not JSON: {error}", param_hint="'--json-schema'") from error
    definition = json_schema if choice is SchemaChoice.json else None
    return Schema(SchemaType[choice.name.upper()], SCHEMA_NAME, definition or "")


def strategy(
    reliable: bool | None,
    storage: StorageChoice | None,
    segment_size: int | None,
    retention: RetentionChoice | None,
    period_s: int | None,
) -> Strategy | None:
    """Return the strategy of a new topic, or None to accept any.

    Only brokers of the original Danube use the storage path.
    """
    from danube_client import NonReliable, Reliable, Retention, Storage  # noqa: PLC0415

    if reliable is False:
        return NonReliable()
    if reliable is None and (storage, segment_size, retention, period_s) == (None,) * 4:
        return None
    paths = {
        None: "",
        StorageChoice.memory: "",
        StorageChoice.disk: os.environ.get("DANUBE_STORAGE_PATH", "/tmp/danube"),  # noqa: S108 - the original's default
        StorageChoice.s3: os.environ.get("DANUBE_S3_BUCKET", "danube-bucket"),
    }
    policies = {
        None: None,
        RetentionChoice.ack: Retention.UNTIL_ACKNOWLEDGED,
        RetentionChoice.expire: Retention.UNTIL_EXPIRED,
    }
    return Reliable(
        storage=Storage[storage.name.upper()] if storage is not None else None,
        segment_size_mib=SEGMENT_SIZE_MB if segment_size is None else segment_size,
        retention=policies[retention],
        retention_period_s=period_s,
        storage_path=paths[storage],
    )
