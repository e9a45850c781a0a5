from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

DATA = b"{}\n"
NAME = "20261129T021500Z"
RECORD: dict[str, Any] = {
    "format": 1,
    "name": NAME,
    "created_ms": 0,
    "version": "0",
    "archive": "a",
    "segments": [],
    "files": [
        {
            "path": "metadata.jsonl",
            "size_bytes": len(DATA),
            "blake2b": hashlib.blake2b(DATA, digest_size=32).hexdigest(),
        }
    ],
}


def write(place: Path, **changed: object) -> Path:
    backup = place / NAME
    backup.mkdir(parents=True, exist_ok=True)
    (backup / "metadata.jsonl").write_bytes(DATA)
    (backup / "backup.json").write_text(json.dumps(RECORD | changed))
    return backup


def test_a_place_without_backups_is_wrong_usage(cli: Any, tmp_path: Path) -> None:
    missing = cli("backup", "verify", str(tmp_path / "nowhere"))
    assert missing.code == 2
    assert "nowhere is not a directory of backups" in missing.err
    for command in ("verify", "restore"):
        empty = cli("backup", command, str(tmp_path))
        assert (empty.code, empty.err) == (2, f"Error: {tmp_path} has no finished backup\n")
    write(tmp_path)
    other = cli("backup", "verify", str(tmp_path), "--name", "x")
    assert other.err == f"Error: {tmp_path} has no backup 'x'; it has {NAME}\n"


def test_a_store_of_s3_is_for_places_in_s3(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    for command in ("create", "verify", "restore"):
        ended = cli("backup", command, str(tmp_path), "--s3-endpoint-url", "http://127.0.0.1:1")
        assert ended.code == 2
        assert "'--s3-endpoint-url': goes with a place s3://BUCKET" in ended.err
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert cli("backup", "verify", str(tmp_path)).code == 0


def test_a_sound_backup_is_verified_without_a_cluster(cli: Any, tmp_path: Path) -> None:
    write(tmp_path)
    ended = cli("backup", "verify", str(tmp_path), "-o", "json")
    assert ended.code == 0
    told = json.loads(ended.out)
    assert (told["name"], told["files"], told["bytes"], told["damaged"]) == (NAME, 1, len(DATA), 0)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_backup_is_told_and_not_restored(cli: Any, tmp_path: Path, damage: str) -> None:
    file = write(tmp_path) / "metadata.jsonl"
    if damage == "changed":
        file.write_bytes(b"[]\n")
    else:
        file.unlink()
    for command in ("verify", "restore"):
        ended = cli("backup", command, str(tmp_path))
        assert ended.code == 1
        assert "metadata.jsonl" in ended.err


def test_a_sound_backup_is_not_restored_without_yes_where_nobody_can_be_asked(
    service: Any, cli: Any, tmp_path: Path
) -> None:
    write(tmp_path)
    ended = cli("backup", "restore", str(tmp_path))
    assert (ended.code, "say --yes" in ended.err, service.requests) == (2, True, [])


def test_a_backup_of_a_later_format_is_refused_with_a_sentence(cli: Any, tmp_path: Path) -> None:
    write(tmp_path, format=2)
    ended = cli("backup", "restore", str(tmp_path))
    assert ended.code == 2
    assert "has format 2, and this danube-admin reads 1: use a newer danube-admin" in ended.err


@pytest.mark.parametrize("key", ["../../x", "/etc/passwd", "f0/../x", "f0//x", ".x"])
def test_no_key_of_a_segment_leads_out_of_the_place(cli: Any, tmp_path: Path, key: str) -> None:
    segment = {
        "key": key,
        "bundle": "f0",
        "first_sequence": 1,
        "backend": "disk",
        "size_bytes": 1,
        "blake2b": "0",
    }
    write(tmp_path, segments=[segment])
    ended = cli("backup", "verify", str(tmp_path))
    assert ended.code == 2
    assert "is no key of a segment" in ended.err
