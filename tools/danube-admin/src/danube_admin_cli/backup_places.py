"""Where backups are kept: a directory, or a bucket of S3. Files have names with ``/``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

READ_BYTES: Final = 1 << 20
UNFINISHED: Final = ".unfinished"
SCHEME: Final = "s3://"
PART_BYTES: Final = 16 << 20
"""Of an object that is written in parts; S3 takes 10 000 of them, so a file has 160 GB at most."""
ATTEMPTS_MAX: Final = 8
TIMEOUT_S: Final = 30.0


class Unreadable(Exception):
    """The backup cannot be used; the text says what is wrong with it."""


class Output:
    """A file that is being written; it is there, whole and durable, when `close` has returned.

    Args:
        append: takes the next bytes.
        finish: makes what was appended durable.
    """

    def __init__(self, append: Callable[[bytes], object], finish: Callable[[], None]) -> None:
        self.size_bytes = 0
        self._digest = hashlib.blake2b(digest_size=32)
        self._append = append
        self._finish = finish

    def write(self, data: bytes) -> None:
        """Append to it."""
        self._append(data)
        self._digest.update(data)
        self.size_bytes += len(data)

    def close(self) -> str:
        """Make it durable and return its digest."""
        self._finish()
        return self._digest.hexdigest()


class Place(Protocol):
    """A place for files. What it cannot do raises OSError."""

    def groups(self) -> list[str]:
        """Return the first parts of the names of all files, in order. Raises Unreadable without a place."""

    def size_of(self, name: str) -> int | None:
        """Return the size of a file; None if there is none."""

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file."""

    def output(self, name: str) -> Output:
        """Open a new file. It is not there before it is closed; a file of this name is replaced."""

    def delete(self, name: str) -> None:
        """Delete a file."""


def place_of(text: str, endpoint_url: str) -> Place:
    """Return the place of ``s3://BUCKET[/PREFIX]`` or of a directory. Raises Unreadable."""
    if not text:
        raise Unreadable("the place of the backups is empty: write a directory or s3://BUCKET")
    if not text.startswith(SCHEME):
        return Directory(Path(text))
    bucket, _, prefix = text.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise Unreadable(f"{text} names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX")
    return Bucket(bucket, prefix.strip("/"), endpoint_url)


class Directory:
    """A directory on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    def groups(self) -> list[str]:
        """See `Place.groups`."""
        if not self._root.is_dir():
            raise Unreadable(f"{self._root} is not a directory of backups")
        return sorted(one.name for one in self._root.iterdir())

    def size_of(self, name: str) -> int | None:
        """See `Place.size_of`."""
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, name: str) -> Iterator[bytes]:
        """See `Place.read`."""
        with (self._root / name).open("rb") as file:
            while data := file.read(READ_BYTES):
                yield data

    def output(self, name: str) -> Output:
        """See `Place.output`."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}{UNFINISHED}")
        file = unfinished.open("wb")

        def finish() -> None:
            file.flush()
            os.fsync(file.fileno())
            file.close()
            unfinished.rename(path)
            _sync(path.parent)

        return Output(file.write, finish)

    def delete(self, name: str) -> None:
        """See `Place.delete`."""
        (self._root / name).unlink()


class Bucket:
    """A bucket of S3, or the part of it under a prefix. Credentials are found as the AWS tools find them."""

    def __init__(self, bucket: str, prefix: str, endpoint_url: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = _client(endpoint_url)

    def __str__(self) -> str:
        return f"{SCHEME}{self._bucket}/{self._prefix}"

    def groups(self) -> list[str]:
        """See `Place.groups`."""
        pages = self._client.get_paginator("list_objects_v2")
        found: list[str] = []
        with _as_os_errors(str(self)):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"):
                found += [one["Prefix"] for one in page.get("CommonPrefixes", ())]
        return sorted(name.removeprefix(self._prefix).rstrip("/") for name in found)

    def size_of(self, name: str) -> int | None:
        """See `Place.size_of`."""
        with _as_os_errors(name):
            try:
                return int(self._client.head_object(**self._object(name))["ContentLength"])
            except self._client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise

    def read(self, name: str) -> Iterator[bytes]:
        """See `Place.read`."""
        with _as_os_errors(name):
            body = self._client.get_object(**self._object(name))["Body"]
            yield from body.iter_chunks(READ_BYTES)

    def output(self, name: str) -> Output:
        """See `Place.output`."""
        upload = _Upload(self._client, self._object(name))
        return Output(upload.append, upload.finish)

    def delete(self, name: str) -> None:
        """See `Place.delete`."""
        with _as_os_errors(name):
            self._client.delete_object(**self._object(name))

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}


class _Upload:
    """An object that is put at once if it is small, else in parts."""

    def __init__(self, client: Any, of: dict[str, str]) -> None:
        self._client = client
        self._of = of
        self._buffer = bytearray()
        self._upload: dict[str, str] | None = None
        self._parts: list[dict[str, Any]] = []

    def append(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) > PART_BYTES:
            self._send(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]

    def finish(self) -> None:
        if self._upload is None:
            with _as_os_errors(self._of["Key"]):
                self._client.put_object(**self._of, Body=bytes(self._buffer))
            return
        self._send(bytes(self._buffer))
        with _as_os_errors(self._of["Key"]):
            self._client.complete_multipart_upload(**self._upload, MultipartUpload={"Parts": self._parts})

    def _send(self, data: bytes) -> None:
        number = len(self._parts) + 1
        with _as_os_errors(self._of["Key"]):
            if self._upload is None:
                made = self._client.create_multipart_upload(**self._of)
                self._upload = {**self._of, "UploadId": made["UploadId"]}
            sent = self._client.upload_part(**self._upload, PartNumber=number, Body=data)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})


def _client(endpoint_url: str) -> Any:
    try:
        from botocore.config import Config  # noqa: PLC0415 - comes with an extra
        from botocore.session import get_session  # noqa: PLC0415
    except ModuleNotFoundError:
        raise Unreadable("backups in S3 need botocore: pip install 'danubepy[s3]'") from None
    config = Config(
        connect_timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS_MAX, "mode": "standard"},
        s3={"addressing_style": "path" if endpoint_url else "auto"},
    )
    return get_session().create_client("s3", endpoint_url=endpoint_url or None, config=config)


@contextmanager
def _as_os_errors(name: str) -> Iterator[None]:
    """Raise what S3 refuses, or does not answer, as OSError."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see `_client`

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(None, str(error), name) from error


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
