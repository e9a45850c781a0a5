"""The metadata store in etcd: for clusters. A key's revision is its mod revision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog
from aetcd import rpc  # type: ignore[import-untyped]

from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.etcd_link import EtcdLink, EtcdTls, LeaseGone
from danube_common.metadata.key import (
    require_key,
    require_prefix,
    require_revision,
    require_write,
)
from danube_common.metadata.port import Change, Entry, Listing, WatchLost

TIMEOUT_S: Final = 5.0
LIST_PAGE_ENTRIES: Final = 128
WATCH_PAUSE_S_MIN: Final = 0.05
WATCH_PAUSE_S_MAX: Final = 2.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _KeyLease:
    """The etcd lease behind a key that this handle put with a ttl."""

    lease_id: int
    ttl_s: int
    renewed_at: float

    def usable(self, ttl_s: int, now: float) -> bool:
        return self.ttl_s == ttl_s and now < self.renewed_at + self.ttl_s


class EtcdMetadata:
    """A handle on etcd with connections of its own."""

    def __init__(self, link: EtcdLink) -> None:
        self._link = link
        self._leases: dict[str, _KeyLease] = {}
        self._closed = False

    @classmethod
    async def connect(
        cls,
        endpoints: Sequence[str],
        *,
        username: str | None = None,
        password: str | None = None,
        tls: EtcdTls | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Connect; return once etcd has answered.

        Args:
            endpoints: ``host:port`` or ``http(s)://host:port``; the next one is taken after a failure.
            username: with ``password``, if etcd has authentication enabled.
            password: see ``username``.
            tls: certificates; None with an ``https`` endpoint trusts the system's authorities.
            timeout_s: the longest any single operation takes.

        Raises:
            MetadataUnavailable: no endpoint answered.
        """
        link = EtcdLink(endpoints, username=username, password=password, tls=tls, timeout_s=timeout_s)
        store = cls(link)
        try:
            for remaining in reversed(range(len(endpoints))):
                try:
                    await store.get("/connect")
                    break
                except MetadataUnavailable:
                    if not remaining:
                        raise
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._link.answered and not self._closed

    async def get(self, key: str) -> Entry | None:
        """See the port."""
        require_key(key)
        async with self._deadline("get"):
            answer = await self._link.read(lambda s: s.kv.Range, rpc.RangeRequest(key=key.encode()))
        return _entry(answer.kvs[0]) if answer.kvs else None

    async def list(self, prefix: str) -> Listing:
        """See the port."""
        require_prefix(prefix)
        start, end = _range(prefix)
        entries: list[Entry] = []
        revision = 0
        while True:
            request = rpc.RangeRequest(
                key=start,
                range_end=end,
                limit=LIST_PAGE_ENTRIES,
                revision=revision,
                sort_order=rpc.RangeRequest.ASCEND,
                sort_target=rpc.RangeRequest.KEY,
            )
            async with self._deadline("list"):
                page = await self._link.read(lambda s: s.kv.Range, request)
            entries += map(_entry, page.kvs)
            # Later pages are of the first one's revision: together they are one moment.
            revision = revision or page.header.revision
            if not page.more:
                return Listing(tuple(entries), revision)
            start = page.kvs[-1].key + b"\0"

    async def put(
        self, key: str, value: bytes, *, expected_revision: int | None = None, ttl_s: float | None = None
    ) -> int:
        """See the port."""
        lifetime_s = require_write(key, value, expected_revision, ttl_s)
        async with self._deadline("put"):
            if lifetime_s is None:
                self._leases.pop(key, None)
                return await self._put(key, value, expected_revision, lease_id=0)
            return await self._put_leased(key, value, expected_revision, lifetime_s)

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        """See the port."""
        require_key(key)
        require_revision(expected_revision)
        request = rpc.DeleteRangeRequest(key=key.encode())
        async with self._deadline("delete"):
            answer = await self._transact(key, expected_revision, rpc.RequestOp(request_delete_range=request))
        self._leases.pop(key, None)
        return bool(answer.responses[0].response_delete_range.deleted)

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncGenerator[Change, None]:
        """See the port."""
        require_prefix(prefix)
        seen, pause_s = after_revision, WATCH_PAUSE_S_MIN
        while not self._closed:
            try:
                async with aclosing(self._batches(prefix, seen)) as batches:
                    async for changes in batches:
                        pause_s = WATCH_PAUSE_S_MIN
                        for change in changes:
                            seen = change.revision
                            yield change
            except MetadataUnavailable as error:
                log.debug("watch_interrupted", prefix=prefix, revision=seen, reason=str(error))
            if not self._closed:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, WATCH_PAUSE_S_MAX)

    async def close(self) -> None:
        """End watches and connections. Leases end with their lifetime. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._link.close()

    # Writing

    async def _put(self, key: str, value: bytes, expected_revision: int | None, *, lease_id: int) -> int:
        request = rpc.PutRequest(key=key.encode(), value=bytes(value), lease=lease_id)
        answer = await self._transact(key, expected_revision, rpc.RequestOp(request_put=request))
        return int(answer.header.revision)

    async def _put_leased(self, key: str, value: bytes, expected_revision: int | None, lifetime: int) -> int:
        sent_at = time.monotonic()
        lease = self._leases.get(key)
        if lease is not None and lease.usable(lifetime, sent_at):
            try:
                # The put first: one that is refused must not prolong the key's life.
                revision = await self._put(key, value, expected_revision, lease_id=lease.lease_id)
                if await self._link.keep_alive(lease.lease_id) == 0:
                    raise MetadataUnavailable(f"the lease of {key} ended while it was renewed")
            except LeaseGone:
                pass
            else:
                lease.renewed_at = sent_at
                return revision
        grant = await self._link.write(lambda s: s.lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=lifetime))
        try:
            revision = await self._put(key, value, expected_revision, lease_id=grant.ID)
        except Conflict:
            await self._revoke(grant.ID)
            raise
        except LeaseGone as error:
            raise MetadataUnavailable(f"the new lease of {key} is gone") from error
        # A lease that is not kept alive ends by itself: forgetting is all there is to do.
        self._leases = {k: kept for k, kept in self._leases.items() if kept.usable(kept.ttl_s, sent_at)}
        self._leases[key] = _KeyLease(grant.ID, lifetime, sent_at)
        return revision

    async def _revoke(self, lease_id: int) -> None:
        try:
            await self._link.write(lambda s: s.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease_id))
        except (MetadataUnavailable, LeaseGone) as error:
            log.debug("lease_left_to_its_ttl", lease=lease_id, reason=str(error))

    async def _transact(self, key: str, expected_revision: int | None, operation: Any) -> Any:
        """The operation if the key is at the revision; Conflict otherwise."""
        request = rpc.TxnRequest(success=[operation])
        if expected_revision is not None:
            request.compare.append(
                rpc.Compare(
                    key=key.encode(),
                    target=rpc.Compare.MOD,
                    result=rpc.Compare.EQUAL,
                    mod_revision=expected_revision,
                )
            )
            found = rpc.RangeRequest(key=key.encode(), keys_only=True)
            request.failure.append(rpc.RequestOp(request_range=found))
        answer = await self._link.write(lambda s: s.kv.Txn, request)
        if not answer.succeeded:
            kvs = answer.responses[0].response_range.kvs
            revision = kvs[0].mod_revision if kvs else 0
            raise Conflict(f"{key} is at revision {revision}, expected {expected_revision}")
        return answer

    # Watching

    async def _batches(self, prefix: str, after_revision: int) -> AsyncGenerator[Sequence[Change], None]:
        """Changes, those of one revision always together, until the stream breaks."""
        start, end = _range(prefix)
        create = rpc.WatchCreateRequest(
            key=start, range_end=end, start_revision=after_revision + 1, fragment=True
        )
        index, stream = await self._link.open_watch(rpc.WatchRequest(create_request=create))
        try:
            fragments: list[Change] = []
            while True:
                answer = await self._link.next_answer(index, stream)
                if answer.compact_revision:
                    raise WatchLost(f"etcd is compacted to {answer.compact_revision}, asked {after_revision}")
                if answer.canceled:
                    raise self._link.lost(index, f"the watch was cancelled: {answer.cancel_reason}")
                if answer.created and answer.header.revision < after_revision:
                    raise WatchLost(f"etcd is at {answer.header.revision}, before {after_revision}")
                fragments += map(_change, answer.events)
                if not answer.fragment:
                    yield fragments
                    fragments = []
        finally:
            stream.cancel()

    @asynccontextmanager
    async def _deadline(self, call: str) -> AsyncIterator[None]:
        if self._closed:
            raise MetadataUnavailable("the metadata store is closed")
        try:
            async with asyncio.timeout(self._link.timeout_s):
                yield
        except TimeoutError as error:
            self._link.answered = False
            raise MetadataUnavailable(
                f"{call}: no answer from etcd within {self._link.timeout_s} s"
            ) from error


def _entry(kv: Any) -> Entry:
    return Entry(kv.key.decode(), bytes(kv.value), int(kv.mod_revision))


def _change(event: Any) -> Change:
    deleted = event.type == rpc.Event.DELETE
    return Change(
        event.kv.key.decode(), None if deleted else bytes(event.kv.value), int(event.kv.mod_revision)
    )


def _range(prefix: str) -> tuple[bytes, bytes]:
    """Every key that starts with the prefix, which ends in a slash: up to the character after it."""
    start = prefix.encode()
    return start, start[:-1] + b"0"
