"""``danube-cli`` against a platform: schemas, and routing keys."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from danube_harness.platforms.standalone import Platform

FIRST = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}'
BROKEN = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}'


class Cli:
    def __init__(self, platform: Platform) -> None:
        self.address = f"http://{platform.gateway_addr}"

    async def __call__(self, command: str, subject: str, *more: str, code: int = 0) -> str:
        return await self.run("schema", command, subject, "-s", self.address, *more, code=code)

    async def keys(self, command: str, topic: str, *more: str, code: int = 0) -> str:
        return await self.run(command, "-s", self.address, "-t", topic, *more, code=code)

    async def run(self, *arguments: str, code: int = 0) -> str:
        words = ["-m", "danube_cli", *arguments]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        assert b"Traceback" not in err
        return (out if code == 0 or out else err).decode()


@pytest.fixture
def cli(platform: Platform) -> Cli:
    return Cli(platform)


async def test_schemas_are_registered_shown_and_checked_from_the_command_line(cli: Cli) -> None:
    subject = f"s_{uuid4().hex[:12]}"
    words = ("--schema-type", "avro", "--schema", FIRST)
    answer: Any = json.loads(await cli("register", subject, *words, "--tags", "a, b", "-o", "json"))
    assert (answer["subject"], answer["version"], answer["is_new_version"]) == (subject, 1, True)
    assert (answer["success"], answer["schema_type"]) == (True, "avro")
    shown = json.loads(await cli("get", subject, "--version", "1", "-o", "json"))
    assert (shown["schema_definition"], shown["schema_id"]) == (FIRST, answer["schema_id"])
    assert shown["tags"] == ["a", "b"]
    assert FIRST in await cli("get", subject)
    listed = json.loads(await cli("versions", subject, "-o", "json"))
    assert (listed["subject"], listed["versions"], listed["count"]) == (subject, [1], 1)
    assert [version["version"] for version in listed["details"]] == [1]
    assert await cli("check", subject, *words) == "Compatible: true\n"


async def test_what_does_not_fit_or_exist_ends_with_an_error(cli: Cli) -> None:
    subject = f"s_{uuid4().hex[:12]}"
    assert "Error: " in await cli("get", subject, code=1)
    await cli("register", subject, "--schema-type", "avro", "--schema", FIRST)
    broken = ("--schema-type", "avro", "--schema", BROKEN)
    said = json.loads(await cli("check", subject, *broken, "-o", "json", code=1))
    assert (said["subject"], said["is_compatible"]) == (subject, False)
    assert said["errors"] != []
    assert "Error: " in await cli("register", subject, *broken, code=1)
    assert "schema-type" in await cli("register", subject, "--schema", FIRST, code=2)


async def test_what_is_sent_has_a_schema_of_a_file_or_a_version_that_is_asked_for(
    cli: Cli, topic: str, tmp_path: Path
) -> None:
    file = tmp_path / "order.schema"
    file.write_text('{"type": "object", "required": ["id"]}')
    subject = topic.removeprefix("/").replace("/", "-")
    words = ("--schema-file", str(file), "--schema-type", "json_schema")
    await cli.keys("produce", topic, *words, "-m", '{"id": 1}')
    shown = json.loads(await cli.run("schema", "-s", cli.address, "get", subject, "-v", "1", "-o", "json"))
    assert (shown["subject"], shown["schema_type"], shown["version"]) == (subject, "json_schema", 1)
    for option in ("--schema-version", "--schema-min-version"):
        pinned = ("--schema-subject", subject, option)
        await cli.keys("produce", topic, *pinned, "1", "-m", '{"id": 2}')
        said = await cli.keys("produce", topic, *pinned, "2", "-m", '{"id": 3}', code=1)
        assert f"the latest version of {subject} is 1" in said
    await cli("register", subject, "-t", "json_schema", "--schema", '{"type": "object"}')
    for option, code in (("--schema-version", 1), ("--schema-min-version", 0)):
        await cli.keys("produce", topic, "--schema-subject", subject, option, "1", "-m", "{}", code=code)
    words = ("-m", "s", "--exit-at-end", "--raw")
    assert await cli.keys("consume", topic, *words) == '{"id": 1}\n{"id": 2}\n{"id": 2}\n{}\n'


async def test_a_key_shared_consumer_takes_the_keys_of_its_filters(cli: Cli, topic: str) -> None:
    for key in ("eu-1", "us-1", "eu-2"):
        await cli.keys("produce", topic, "-m", f"for {key}", "--key", key)
    words = ("-m", "s", "--sub-type", "key-shared", "--exit-at-end", "--raw")
    assert await cli.keys("consume", topic, *words, "--key-filter", "eu-*") == "for eu-1\nfor eu-2\n"
    assert await cli.keys("consume", topic, *words, "--key-filter", "u?-1") == "for us-1\n"


async def test_a_subscription_is_created_without_a_consumer(cli: Cli, topic: str) -> None:
    await cli.keys("produce", topic, "-m", "one")
    assert await cli.keys("subscribe", topic, "-m", "s") == "Subscription s created\n"
    assert await cli.keys("subscribe", topic, "-m", "s") == "Subscription s exists already\n"


async def test_filters_go_with_key_shared_only(cli: Cli, topic: str) -> None:
    said = await cli.keys("consume", topic, "-m", "s", "--key-filter", "a*", code=2)
    assert "--sub-type key-shared" in said
    said = await cli.keys("subscribe", topic, "-m", "s", "--sub-type", "key-shared", code=2)
    assert "danube-cli consume" in said
