"""The commands, options and values that danube-cli of the current generation has: all are taken here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from danube_cli.__main__ import app
from danube_harness.services.stub_gateway import StubGateway

TOPIC = "/default/test_topic"
COMMANDS = {
    "produce": "-s --service-addr -n --producer-name -t --topic -m --message -f --file --schema-subject "
    "--schema-version --schema-min-version --schema-file --schema-type -a --attributes -p --partitions "
    "-c --count -i --interval --reliable",
    "consume": "-s --service-addr -t --topic -n --consumer --consumer-name -m --subscription --sub-type",
    "schema": "-s --service-addr",
    "schema register": "SUBJECT -t --schema-type -f --file -o --output",
    "schema get": "SUBJECT -v --version -o --output",
    "schema versions": "SUBJECT -o --output",
    "schema check": "SUBJECT -t --schema-type -f --file -o --output",
}
PRODUCE = {
    "-s http://b:6650 -m x": {"service_addr": "http://b:6650", "message": "x", "topic": TOPIC, "count": 1},
    "-s http://b:6650 -n me -t /n/t -m x": {"producer_name": "me", "topic": "/n/t"},
    "-m x -a 'a:b,c:d' -p 3 -c 100 -i 100": {
        "attributes": "a:b,c:d",
        "partitions": 3,
        "count": 100,
        "interval": 100,
    },
    "-m x --reliable": {"reliable": True},
    "-m x --schema-subject s --schema-version 2": {"schema_subject": "s", "schema_version": 2},
    "-m x --schema-subject s --schema-min-version 2": {"schema_min_version": 2},
    "-m x --schema-file a.json --schema-type json_schema": {"schema_type": "json_schema"},
    "-m x --schema-file a.avsc --schema-type avro": {"schema_file": "a.avsc", "schema_type": "avro"},
    "-m x --schema-file a.proto --schema-type protobuf": {"schema_type": "protobuf"},
}
CONSUME = {
    "-s http://b:6650 -m s": {"subscription": "s", "topic": TOPIC, "sub_type": "shared"},
    "-s http://b:6650 -n c -t /n/t -m s": {"consumer": "c", "topic": "/n/t"},
    **{
        f"-m s --sub-type {kind}": {"sub_type": kind}
        for kind in ("exclusive", "shared", "fail-over", "key-shared")
    },
}
SCHEMA = {
    "get s -v 2 -o json": {"version": 2, "output": "json"},
    "get s -o table": {"output": "table", "version": None},
    "versions s --output json": {"subject": "s"},
    "check s -t avro -f a.avsc -o json": {"schema_type": "avro", "file": "a.avsc"},
    **{
        f"register s -t {kind} -f a": {"schema_type": kind, "output": "table"}
        for kind in ("json_schema", "avro", "protobuf")
    },
}
LINES = [
    (group, line, values)
    for group, lines in (("produce", PRODUCE), ("consume", CONSUME), ("schema", SCHEMA))
    for line, values in lines.items()
]


def command_of(words: str) -> Any:
    found: Any = typer.main.get_command(app)
    for word in words.split():
        found = found.commands[word]
    return found


@pytest.mark.parametrize(("command", "wanted"), COMMANDS.items())
def test_a_command_of_the_current_generation_is_there_with_its_options(command: str, wanted: str) -> None:
    found = command_of(command)
    known = {option for parameter in found.params for option in parameter.opts}
    known |= {parameter.metavar for parameter in found.params}
    assert set(wanted.split()) - known == set()


@pytest.mark.parametrize(("command", "line", "values"), LINES)
def test_a_line_of_a_script_means_what_it_says(
    command: str, line: str, values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DANUBE_SERVICE_ADDR", raising=False)
    words = shlex.split(line)
    if command == "schema":
        command = f"schema {words.pop(0)}"
    given = command_of(command).make_context(command, words).params
    assert {name: given[name] for name in values} == values


async def test_a_file_is_one_message_if_that_is_asked_for(
    gateway: StubGateway, cli: Any, tmp_path: Path
) -> None:
    data = b"\x00one\ntwo\r\n"
    file = tmp_path / "data"
    file.write_bytes(data)
    ended = await cli("produce", "--file", str(file), "--input", "whole", "-c", "2")
    assert (ended.code, len(ended.out.splitlines())) == (0, 2)
    assert [message.payload for message in gateway.accepted[TOPIC]] == [data, data]
    ended = await cli("produce", "-f", str(file))
    assert (ended.code, "--input whole" in ended.err) == (2, True)
    assert len(gateway.accepted[TOPIC]) == 2


@pytest.mark.parametrize(
    "line",
    [
        "produce -m x --schema-version 2",
        "produce -m x --schema-min-version 2",
        "produce -m x --schema-subject s --schema-version 2 --schema-min-version 2",
        "produce -m x --schema-subject s --schema-file a.json --schema-type json_schema",
        "produce -m x --schema-type json_schema",
        "produce -m x --schema-file a.json --schema string",
        "produce -m x --schema-file /does/not/exist.json",
        "consume -m s --consumer a --consumer-name b",
        "schema -s http://a:1 get s -s http://b:1",
    ],
)
async def test_options_that_do_not_go_together_are_wrong_usage(
    gateway: StubGateway, cli: Any, line: str
) -> None:
    assert ((await cli(*line.split())).code, gateway.requests) == (2, {})


async def test_the_address_of_a_group_is_that_of_its_command(cli: Any) -> None:
    ended = await cli("schema", "-s", "ftp://a:1", "get", "s")
    assert (ended.code, "ftp://a:1" in ended.err) == (2, True)
    ended = await cli("schema", "-s", "ftp://a:1", "get", "s", "-s", "ftp://a:1")
    assert (ended.code, "ftp://a:1" in ended.err) == (2, True)


def test_help_shows_one_spelling() -> None:
    told = CliRunner().invoke(app, ["consume", "--help"]).stdout
    assert ("--consumer" in told, "--consumer-name" in told) == (True, False)
