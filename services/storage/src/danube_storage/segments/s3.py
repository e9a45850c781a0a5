"""Segments as create-once objects of an S3-compatible store."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from danube_common.errors import (
    AlreadyExists,
    InvalidInput,
    LimitExceeded,
    NotFound,
    StoreUnavailable,
)
from danube_storage.segments.port import check_key, check_prefix, check_range
from danube_storage.segments.s3_link import (
    ATTEMPTS_MAX,
    CONNECTIONS_MAX_DEFAULT,
    PastTheEnd,
    PreconditionFailed,
    S3Link,
)

PART_BYTES = 8 << 20
PARTS_MAX = 10_000
PARTS_IN_FLIGHT_MAX = 4
COMPARE_BYTES = 8 << 20
LIST_PAGES_MAX = 10_000
ABORT_ATTEMPTS_MAX = 2

_DIGEST = "danube-sha256"
_ONLY_IF_ABSENT = "*"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class S3Store:
    """SegmentStore in one bucket, under ``prefix``. Created by `connect`.

    A segment is created with ``If-None-Match: *``. Above PART_BYTES it is uploaded in parts, at most
    PARTS_IN_FLIGHT_MAX at once, and becomes visible when it is complete. If the key exists, perhaps from
    an attempt whose reply was lost, the contents are compared. Parts of dead writers are invisible but take
    space: give the bucket a lifecycle rule that aborts incomplete uploads.
    """

    def __init__(self, link: S3Link, bucket: str, prefix: str, part_bytes: int) -> None:
        self._link = link
        self._bucket = bucket
        self._prefix = prefix
        self._part_bytes = part_bytes

    @classmethod
    async def connect(
        cls,
        bucket: str,
        *,
        prefix: str = "",
        endpoint_url: str | None = None,
        region: str | None = None,
        attempts_max: int = ATTEMPTS_MAX,
        connections_max: int = CONNECTIONS_MAX_DEFAULT,
        part_bytes: int = PART_BYTES,
    ) -> S3Store:
        """Return a store. Nothing is sent yet; the bucket must exist.

        Args:
            bucket: its name.
            prefix: of all keys; empty or ending with a slash, else InvalidInput is raised.
            endpoint_url: of an S3-compatible store other than Amazon S3.
            region: overrides environment and profile.
            attempts_max: the most attempts of one call.
            connections_max: the most connections at once.
            part_bytes: the size of a part; a segment has at most PARTS_MAX parts.
        """
        check_prefix(prefix)
        link = await S3Link.connect(
            endpoint_url=endpoint_url,
            region=region,
            attempts_max=attempts_max,
            connections_max=connections_max,
        )
        return cls(link, bucket, prefix, part_bytes)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """See the port."""
        name = self._name(key)
        content = _Content()
        async with aclosing(_parts(chunks, self._part_bytes)) as parts:
            first = await anext(parts, b"")
            second = await anext(parts, None)
            if second is None:
                await self._put_small(name, first, content)
            else:
                await self._put_in_parts(name, _chain(first, second, parts), content)

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """See the port."""
        check_range(offset, length)
        if length == 0:
            await self.size(key)
            return b""
        return await self._read(self._name(key), offset, length)

    async def size(self, key: str) -> int:
        """See the port."""
        return int((await self._head(self._name(key)))["ContentLength"])

    async def list(self, prefix: str) -> list[str]:
        """See the port."""
        check_prefix(prefix)
        keys: list[str] = []
        more: dict[str, str] = {}
        for _ in range(LIST_PAGES_MAX):
            page = await self._call("list_objects_v2", Prefix=self._prefix + prefix, **more)
            keys += [item["Key"].removeprefix(self._prefix) for item in page.get("Contents", [])]
            if not page.get("IsTruncated"):
                return sorted(key for key in keys if _is_key(key))
            more = {"ContinuationToken": page["NextContinuationToken"]}
        raise LimitExceeded("list_pages", f"more than {LIST_PAGES_MAX} pages of segments")

    async def delete(self, key: str) -> None:
        """See the port."""
        with contextlib.suppress(NotFound):
            await self._call("delete_object", Key=self._name(key))

    async def close(self) -> None:
        """See the port."""
        await self._link.close()

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return await self._link.call(operation, Bucket=self._bucket, **arguments)

    def _name(self, key: str) -> str:
        check_key(key)
        return self._prefix + key

    async def _put_small(self, name: str, whole: bytes, content: _Content) -> None:
        md5 = await content.take(whole)
        try:
            await self._call(
                "put_object",
                Key=name,
                Body=whole,
                ContentMD5=md5,
                Metadata={_DIGEST: content.digest},
                IfNoneMatch=_ONLY_IF_ABSENT,
            )
        except PreconditionFailed:
            await self._settle(name, content)

    async def _put_in_parts(self, name: str, parts: AsyncIterator[bytes], content: _Content) -> None:
        upload: dict[str, Any] = {"Key": name, "UploadId": (await self._create_upload(name))["UploadId"]}
        complete = False
        try:
            uploaded = await self._upload(upload, parts, content)
            try:
                await self._call(
                    "complete_multipart_upload",
                    **upload,
                    MultipartUpload={"Parts": uploaded},
                    IfNoneMatch=_ONLY_IF_ABSENT,
                )
                complete = True
            except PreconditionFailed:
                await self._settle(name, content)
        finally:
            if not complete:
                await self._abort(upload)

    async def _create_upload(self, name: str) -> dict[str, Any]:
        try:
            return await self._call("create_multipart_upload", Key=name)
        except (NotFound, PreconditionFailed) as error:
            raise StoreUnavailable(f"S3 does not begin an upload: {error}") from None

    async def _upload(
        self, upload: dict[str, Any], parts: AsyncIterator[bytes], content: _Content
    ) -> Sequence[dict[str, Any]]:
        """Upload every part; return the list that completes the upload."""
        tasks: list[asyncio.Task[dict[str, Any]]] = []
        slots = asyncio.Semaphore(PARTS_IN_FLIGHT_MAX)
        try:
            async with asyncio.TaskGroup() as group:
                async for part in parts:
                    if len(tasks) == PARTS_MAX:
                        raise LimitExceeded("segment_bytes", f"a segment can have {PARTS_MAX} parts")
                    md5 = await content.take(part)
                    await slots.acquire()
                    task = group.create_task(self._upload_part(upload, len(tasks) + 1, part, md5))
                    task.add_done_callback(lambda _: slots.release())
                    tasks.append(task)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _upload_part(
        self, upload: dict[str, Any], number: int, part: bytes, md5: str
    ) -> dict[str, Any]:
        try:
            answer = await self._call("upload_part", **upload, PartNumber=number, Body=part, ContentMD5=md5)
        except (NotFound, PreconditionFailed):
            raise StoreUnavailable("S3 knows nothing of the upload any more") from None
        return {"PartNumber": number, "ETag": answer["ETag"]}

    async def _abort(self, upload: dict[str, Any]) -> None:
        with contextlib.suppress(NotFound, PreconditionFailed, StoreUnavailable):
            await asyncio.shield(
                self._link.call(
                    "abort_multipart_upload",
                    attempts_max=ABORT_ATTEMPTS_MAX,
                    Bucket=self._bucket,
                    **upload,
                )
            )

    async def _settle(self, name: str, content: _Content) -> None:
        """The key exists: return if it has this content, raise AlreadyExists if it has other content."""
        try:
            head = await self._head(name)
            if head["ContentLength"] == content.size_bytes:
                theirs = head.get("Metadata", {}).get(_DIGEST) or await self._digest(name, content.size_bytes)
                if theirs == content.digest:
                    return
        except NotFound:
            raise StoreUnavailable(f"S3 refused segment {name} for one that is not there") from None
        raise AlreadyExists(f"segment {name} exists with other content")

    async def _digest(self, name: str, size_bytes: int) -> str:
        """Return the digest of a stored segment: an upload in parts cannot record it in advance."""
        digest = hashlib.sha256()
        for offset in range(0, size_bytes, COMPARE_BYTES):
            chunk = await self._read(name, offset, COMPARE_BYTES)
            await asyncio.to_thread(digest.update, chunk)
        return digest.hexdigest()

    async def _head(self, name: str) -> dict[str, Any]:
        try:
            return await self._call("head_object", Key=name)
        except NotFound:
            await self._check_bucket()
            raise NotFound(f"there is no segment {name}") from None

    async def _check_bucket(self) -> None:
        """Raise StoreUnavailable if the bucket is missing: HEAD does not tell that from a missing object."""
        try:
            await self._call("head_bucket")
        except NotFound:
            raise StoreUnavailable(f"there is no bucket {self._bucket}") from None

    async def _read(self, name: str, offset: int, length: int) -> bytes:
        wanted = f"bytes={offset}-{offset + length - 1}"
        try:
            answer, content = await self._link.get(Bucket=self._bucket, Key=name, Range=wanted)
        except PastTheEnd:
            return b""
        except NotFound:
            raise NotFound(f"there is no segment {name}") from None
        got = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
        if got is None or int(got[1]) != offset or len(content) != min(length, int(got[2]) - offset):
            raise StoreUnavailable(f"S3 did not answer with the {length} bytes from {offset} of {name}")
        return content


class _Content:
    """Size and digest of a segment that is being uploaded."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()

    async def take(self, part: bytes) -> str:
        """Add the next part; return its Content-MD5, by which the server detects a damaged transfer."""
        self.size_bytes += len(part)
        return await asyncio.to_thread(self._hash, part)

    def _hash(self, part: bytes) -> str:
        self._sha256.update(part)
        return base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode()


async def _parts(chunks: AsyncIterator[bytes], part_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the bytes in parts of ``part_bytes``; the last part may be shorter."""
    held = bytearray()
    async for chunk in chunks:
        view = memoryview(chunk)
        while len(held) + len(view) >= part_bytes:
            taken = part_bytes - len(held)
            held += view[:taken]
            view = view[taken:]
            yield bytes(held)
            held.clear()
        held += view
    if held:
        yield bytes(held)


async def _chain(first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    yield second
    async for part in rest:
        yield part


def _is_key(text: str) -> bool:
    try:
        check_key(text)
    except InvalidInput:
        return False
    return True
