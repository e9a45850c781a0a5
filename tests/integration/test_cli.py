"""danube-cli on native streaming, against the platform."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
from pathlib import Path
from uuid import uuid4

import pytest

from danube_client.testing.platform import LocalPlatform

CLI = Path(sysconfig.get_path("scripts")) / "danube-cli"


class Cli:
    """Runs danube-cli as a user does."""

    def __init__(self, url: str, directory: Path) -> None:
        self._environment = {
            **os.environ,
            "DANUBE_SERVICE_ADDR": url,
            "XDG_CONFIG_HOME": str(directory),
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [CLI, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, env=self._environment
        )

    def __call__(self, *arguments: str, stdin: bytes = b"", code: int = 0) -> bytes:
        with self.start(*arguments) as process:
            out, err = process.communicate(stdin)
        assert process.returncode == code, err
        assert b"Traceback" not in err
        return out

    def failure(self, *arguments: str) -> bytes:
        """Run a command that is refused, and return what it says."""
        with self.start(*arguments) as process:
            _, err = process.communicate()
        assert process.returncode == 1, err
        return err


@pytest.fixture
def cli(danube_url: str, tmp_path: Path) -> Cli:
    return Cli(danube_url, tmp_path)


@pytest.mark.timeout(180)
def test_a_table_is_sent_looked_at_replayed_and_read_by_key_and_position(cli: Cli) -> None:
    topic = f"/default/{uuid4()}"
    table = b'id,name\n7,"two\nlines"\n8,eight\n'
    cli("produce", "-t", topic, "--file", "-", "--input", "csv", "--key-field", "id", stdin=table)
    looked_at = [json.loads(line) for line in cli("peek", "-t", topic, "-o", "json").splitlines()]
    assert [one["key"] for one in looked_at] == ["7", "8"]
    assert [json.loads(one["payload"])["name"] for one in looked_at] == ["two\nlines", "eight"]
    first, second = (one["position"] for one in looked_at)
    assert looked_at[0]["publish_time"].endswith("Z")
    with cli.start("peek", "-t", topic, "--from", str(second + 1)) as behind_all:
        assert behind_all.communicate() == (b"", b"No messages there.\n")

    shown = cli("replay", "-t", topic, "--from", str(second), "-f", "%o %k\\n")
    assert shown == f"{second} 8\n".encode()
    assert cli("replay", "-t", topic, "--to", str(first), "-f", "%k") == b"7"

    again = f"{topic}-again"
    assert cli("replay", "-t", topic, "--into", again) == b""
    binary = cli("replay", "-t", again, "-o", "length-prefixed")
    cli(
        *("produce", "-t", again, "--file", "-", "--input", "length-prefixed", "--compress", "zstd"),
        stdin=binary,
    )
    read = cli("consume", "-t", again, "-m", "s", "--max", "4", "-f", "%k %p\\n").splitlines()
    names = [json.loads(line.partition(b" ")[2])["name"] for line in read]
    assert names == ["two\nlines", "eight"] * 2
    assert [line.partition(b" ")[0] for line in read] == [b"7", b"8", b"", b""]
    # Neither peek nor replay made a subscription: one that is new has all messages of the first topic.
    assert len(cli("consume", "-t", topic, "-m", "s", "--max", "2", "--raw").splitlines()) == 2

    listed = cli("topics", "list", f"{topic}*", "-o", "json").splitlines()
    assert [json.loads(line)["topic"] for line in listed] == [topic, again]


@pytest.mark.timeout(60)
def test_a_list_of_topics_says_what_is_not_there(cli: Cli, danube_platform: LocalPlatform) -> None:
    assert cli("topics", "list", "/default/nothing*") == b""
    assert b"namespace 'nowhere' does not exist" in cli.failure("topics", "list", "nowhere")
    at_admin_port = cli.failure("topics", "list", "-s", danube_platform.admin_url)
    assert b"this is the admin port: clients connect to" in at_admin_port


@pytest.mark.timeout(120)
def test_an_interrupt_ends_after_what_was_read_is_stored(cli: Cli) -> None:
    topic = f"/default/{uuid4()}"
    cli("produce", "-t", topic, "-m", "first")
    with cli.start("produce", "-t", topic, "--file", "-") as producing:
        assert producing.stdin is not None
        producing.stdin.write(b"".join(b"%d\n" % number for number in range(5000)))
        producing.stdin.flush()
        with cli.start("consume", "-t", topic, "-m", "s", "--raw", "--max", "5001") as consuming:
            out, _ = consuming.communicate()  # all of them are stored now
        producing.send_signal(signal.SIGINT)
        assert producing.wait(30) == 130  # with its input still open
        _, err = producing.communicate()
    assert b"5000 messages sent in " in err
    assert out.split() == [b"first", *(b"%d" % number for number in range(5000))]


@pytest.mark.timeout(180)
def test_a_topic_gets_the_subject_that_is_named(cli: Cli) -> None:
    name = uuid4().hex
    produce = ("produce", "-t", f"/default/{name}", "-m", '{"id": 1}')
    assert b"subject" in cli.failure(*produce, "--schema-subject", name)
    for subject in (name, f"other_{name}"):
        cli("schema", "register", subject, "--schema-type", "json_schema", "--schema", '{"type": "object"}')
    cli(*produce, "--schema-subject", name)
    assert name.encode() in cli.failure(*produce, "--schema-subject", f"other_{name}")
    cli(*produce, "--schema-subject", name, "--schema", "string", code=2)
