"""A directory and a bucket keep the files of backups alike: whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from danube_admin_cli import backup_places
from danube_admin_cli.backup import begun
from danube_admin_cli.backup_files import Backups
from danube_admin_cli.backup_places import Place, Unreadable, place_of
from danube_harness.servers.s3_server import BUCKET, S3Kind, S3Server

Opened = Callable[[str], Place]
S3_PART_BYTES_MIN = 5 << 20


@pytest.fixture(params=["directory", "s3"])
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Opened]:
    """Open a place of a name."""
    if request.param == "directory":
        yield lambda name: place_of(str(tmp_path / name), "")
        return
    async with S3Server.run(S3Kind.MOTO, tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(backup_places, "PART_BYTES", S3_PART_BYTES_MIN)
        yield lambda name: place_of(f"s3://{BUCKET}/{name}", server.endpoint)


async def test_files_are_there_whole_once_they_are_closed(opened: Opened) -> None:
    place, other = opened("one/of"), opened("one")
    output = place.output("b/streams/x")
    output.write(b"abc")
    assert place.size_of("b/streams/x") is None
    output.write(b"def")
    assert output.close() == hashlib.blake2b(b"abcdef", digest_size=32).hexdigest()
    assert (place.size_of("b/streams/x"), output.size_bytes) == (6, 6)
    assert b"".join(place.read("b/streams/x")) == b"abcdef"

    large = bytes(range(256)) * (2 * S3_PART_BYTES_MIN // 256) + b"end"
    output = place.output("a/large")
    for at in range(0, len(large), 1 << 20):
        output.write(large[at : at + (1 << 20)])
    output.close()
    assert b"".join(place.read("a/large")) == large
    place.output("a/large").close()
    assert place.size_of("a/large") == 0

    assert place.groups() == ["a", "b"]
    assert other.groups() == ["of"]
    place.delete("a/large")
    assert place.size_of("a/large") is None
    with pytest.raises(OSError, match="a/large") as missing:
        b"".join(place.read("a/large"))
    assert str(missing.value.filename).endswith("a/large")


def test_a_bucket_needs_a_name() -> None:
    with pytest.raises(Unreadable, match="write s3://BUCKET"):
        place_of("s3:///x", "")


def test_an_empty_place_is_not_the_current_directory() -> None:
    with pytest.raises(Unreadable, match="is empty"):
        place_of("", "")


def test_backups_that_begin_within_a_second_have_names_of_their_own(tmp_path: Path) -> None:
    backups = Backups(place_of(str(tmp_path), ""))

    names = [begun(backups)[1] for _ in range(3)]

    assert names == sorted(set(names))
