"""The metadata store in a JetStream key-value bucket: the default of a standalone platform.

A key is a subject, its revision the stream sequence of its last message. Deletions and ended lifetimes
are marker messages, which live for an hour: a watch that may have missed one because it was away for
longer is lost instead. Only the last message of a key is kept, so what happened to it while a watch was
interrupted is folded. Reads ask the stream's leader; direct get, which followers answer, stays off.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import structlog

from danube_common.errors import (
    BusUnavailable,
    Conflict,
    InvalidInput,
    LimitExceeded,
    MetadataUnavailable,
)
from danube_common.metadata.history import RevisionsSeen
from danube_common.metadata.jetstream_feed import Feed, FeedLost
from danube_common.metadata.key import (
    VALUE_BYTES_MAX,
    require_key,
    require_prefix,
    require_revision,
    require_write,
)
from danube_common.metadata.port import Change, Entry, Listing, WatchLost
from danube_common.nats.connection import Connection
from danube_common.nats.jetstream import (
    EXPECTED_SEQUENCE_HEADER,
    MESSAGE_ID_HEADER,
    NO_MESSAGE_FOUND,
    STREAM_CONFIG_DIFFERS,
    WRONG_LAST_SEQUENCE,
    A,
    Answer,
    JetStream,
    JetStreamRefused,
    MessageAnswer,
    StoredMessage,
    StreamAnswer,
)

ATTEMPT_TIMEOUT_S: Final = 2.0
OPEN_TIMEOUT_S: Final = 10.0
OPERATION_TIMEOUT_S: Final = 5.0
LIST_TIMEOUT_S: Final = 30.0
LIST_READS_AT_ONCE: Final = 64
CLAIM_ATTEMPTS_MAX: Final = 16
WATCH_PAUSE_S_MIN: Final = 0.05
WATCH_PAUSE_S_MAX: Final = 2.0
MARKER_TTL_S: Final = 3600
MARKER_MARGIN_RATIO: Final = 0.1
"""Part of a marker's life that a watch does not count on: clocks differ and reading takes time."""
MESSAGE_BYTES_MAX: Final = VALUE_BYTES_MAX + 4096

TTL_HEADER: Final = "Nats-TTL"
ROLLUP_HEADER: Final = "Nats-Rollup"
OPERATION_HEADER: Final = "KV-Operation"
MARKER_HEADER: Final = "Nats-Marker-Reason"

_NANOSECONDS: Final = 10**9
_DUPLICATE_WINDOW_S: Final = 120

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class JetStreamMetadata:
    """A handle on a bucket. The caller keeps and closes the connection."""

    def __init__(self, connection: Connection, bucket: str, marker_ttl_s: int) -> None:
        self._jetstream = JetStream(connection, attempt_timeout_s=ATTEMPT_TIMEOUT_S)
        self._stream = f"KV_{bucket}"
        self._subject_prefix = f"$KV.{bucket}"
        self._marker_ttl_s = marker_ttl_s
        self._history_s = marker_ttl_s * (1 - MARKER_MARGIN_RATIO)
        self._seen = RevisionsSeen(valid_s=self._history_s)
        self._feeds: set[Feed] = set()
        self._closed = False

    @classmethod
    async def open(
        cls,
        connection: Connection,
        *,
        bucket: str = "danube",
        replicas: int = 1,
        marker_ttl_s: int = MARKER_TTL_S,
    ) -> Self:
        """Return once the bucket exists with its settings.

        Args:
            connection: a connected client; the caller closes it.
            bucket: its stream is ``KV_{bucket}``.
            replicas: the least number of replicas; a bucket with more keeps them.
            marker_ttl_s: how long a deletion is remembered for watches that were away.

        Raises:
            MetadataUnavailable: JetStream does not answer or cannot place the bucket.
        """
        store = cls(connection, bucket, marker_ttl_s)
        async with store._deadline("open", OPEN_TIMEOUT_S):
            await store._ensure_stream(replicas)
        return store

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._jetstream.answered and self._jetstream.connection.is_connected and not self._closed

    async def get(self, key: str) -> Entry | None:
        """See the port."""
        require_key(key)
        async with self._deadline("get", OPERATION_TIMEOUT_S):
            stored = await self._last(self._subject(key))
        return None if stored is None or _is_marker(stored.headers) else self._entry(stored)

    async def list(self, prefix: str) -> Listing:
        """See the port."""
        require_prefix(prefix)
        asked_at = time.monotonic()
        async with self._deadline("list", OPERATION_TIMEOUT_S):
            # The revision first: what is written while the entries are read is in a watch from there.
            revision, subjects = await self._subjects(self._filter(prefix))
        async with self._deadline("list", LIST_TIMEOUT_S):
            stored = await self._read_all(subjects)
        self._seen.note(revision, asked_at)
        entries = (self._entry(message) for message in stored if not _is_marker(message.headers))
        return Listing(tuple(sorted(entries, key=lambda entry: entry.key)), revision)

    async def put(
        self, key: str, value: bytes, *, expected_revision: int | None = None, ttl_s: float | None = None
    ) -> int:
        """See the port."""
        lifetime_s = require_write(key, value, expected_revision, ttl_s)
        headers = {} if lifetime_s is None else {TTL_HEADER: f"{lifetime_s}s"}
        sent_at = time.monotonic()
        async with self._deadline("put", OPERATION_TIMEOUT_S):
            revision = await self._put(self._subject(key), bytes(value), headers, expected_revision)
        self._seen.note(revision, sent_at)
        return revision

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        """See the port."""
        require_key(key)
        require_revision(expected_revision)
        subject = self._subject(key)
        headers = {OPERATION_HEADER: "PURGE", ROLLUP_HEADER: "sub", TTL_HEADER: f"{self._marker_ttl_s}s"}
        async with self._deadline("delete", OPERATION_TIMEOUT_S):
            for _ in range(CLAIM_ATTEMPTS_MAX):
                last = await self._last(subject)
                revision = _live_revision(last)
                if expected_revision is not None and expected_revision != revision:
                    raise Conflict(f"{key} is at revision {revision}, expected {expected_revision}")
                if revision == 0:
                    return False
                if await self._publish(subject, b"", headers, after_sequence=revision) is not None:
                    return True
        raise MetadataUnavailable(f"{key} changes faster than it can be deleted")

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncGenerator[Change, None]:
        """See the port."""
        subject = self._filter(require_prefix(prefix))
        seen, pause_s = after_revision, WATCH_PAUSE_S_MIN
        known_at = self._seen.known_at(after_revision)
        while not self._closed:
            try:
                await self._require_history(seen, known_at)
                async with self._feed(subject, seen) as feed:
                    while True:
                        fed = await feed.next()
                        pause_s = WATCH_PAUSE_S_MIN
                        if fed.message is not None and fed.sequence > seen:
                            seen = fed.sequence
                            value = None if _is_marker(fed.message.headers or {}) else fed.message.data
                            yield Change(self._key(fed.message.subject), value, seen)
                        known_at = fed.caught_up_at or known_at
            except (FeedLost, MetadataUnavailable) as error:
                log.debug("watch_interrupted", prefix=prefix, revision=seen, reason=str(error))
            if not self._closed:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, WATCH_PAUSE_S_MAX)

    async def close(self) -> None:
        """End the watches; the connection stays open. Idempotent."""
        self._closed = True
        for feed in self._feeds:
            feed.lose("the store was closed")

    # Keys and subjects

    def _subject(self, key: str) -> str:
        return self._subject_prefix + key.replace("/", ".")

    def _filter(self, prefix: str) -> str:
        return self._subject(prefix) + ">"

    def _key(self, subject: str) -> str:
        return subject.removeprefix(self._subject_prefix).replace(".", "/")

    def _entry(self, message: StoredMessage) -> Entry:
        return Entry(self._key(message.subject), message.data, message.sequence)

    # Reading

    async def _last(self, subject: str) -> StoredMessage | None:
        """Return the last message of the subject, a value or a marker, as the stream's leader has it."""
        return await self._message({"last_by_subj": subject})

    async def _message(self, question: Mapping[str, Any]) -> StoredMessage | None:
        try:
            return (await self._ask("STREAM.MSG.GET", question, MessageAnswer)).stored()
        except JetStreamRefused as refusal:
            if refusal.error_code == NO_MESSAGE_FOUND:
                return None
            raise

    async def _info(self, question: Mapping[str, Any]) -> StreamAnswer:
        return await self._ask("STREAM.INFO", question, StreamAnswer)

    async def _ask(self, verb: str, question: Mapping[str, Any], answer: type[A]) -> A:
        """Call JetStream's API for the bucket; the deadline around it may be shorter than its patience."""
        return await self._jetstream.ask(
            f"{verb}.{self._stream}", question, answer, patience_s=LIST_TIMEOUT_S
        )

    async def _subjects(self, subject_filter: str) -> tuple[int, Sequence[str]]:
        """Return the stream's last sequence and every subject that had a message then or has one since."""
        first = await self._info({"subjects_filter": subject_filter})
        subjects = [*first.state.subjects]
        while len(subjects) < first.total:
            page = await self._info({"subjects_filter": subject_filter, "offset": len(subjects)})
            if not page.state.subjects:
                break
            subjects += page.state.subjects
        return first.state.last_seq, subjects

    async def _read_all(self, subjects: Iterable[str]) -> Sequence[StoredMessage]:
        remaining = iter(set(subjects))
        found: deque[StoredMessage] = deque()

        async def read() -> None:
            for subject in remaining:
                message = await self._last(subject)
                if message is not None:
                    found.append(message)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(LIST_READS_AT_ONCE):
                    group.create_task(read())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return found

    # Writing

    async def _put(
        self, subject: str, value: bytes, headers: Mapping[str, str], expected_revision: int | None
    ) -> int:
        after_sequence = expected_revision
        if expected_revision:
            # The marker of a deleted key has a sequence too, but the key has no revision.
            await self._require_live(subject, expected_revision)
        for _ in range(CLAIM_ATTEMPTS_MAX):
            revision = await self._publish(subject, value, headers, after_sequence)
            if revision is not None:
                return revision
            last = await self._last(subject)
            if expected_revision or _live_revision(last):
                raise Conflict(
                    f"{self._key(subject)} is at {_live_revision(last)}, expected {expected_revision}"
                )
            after_sequence = 0 if last is None else last.sequence
        raise MetadataUnavailable(f"{self._key(subject)} changes faster than it can be claimed")

    async def _require_live(self, subject: str, revision: int) -> None:
        live = _live_revision(await self._last(subject))
        if live != revision:
            raise Conflict(f"{self._key(subject)} is at revision {live}, expected {revision}")

    async def _publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str], after_sequence: int | None
    ) -> int | None:
        """Store one message; return its sequence, or None if ``after_sequence`` is not the subject's last.

        Each message carries a unique id. When the answer is lost, the id of the stored message tells
        whether this publish succeeded.
        """
        message_id = uuid.uuid4().hex
        headers = {**headers, MESSAGE_ID_HEADER: message_id}
        if after_sequence is not None:
            headers[EXPECTED_SEQUENCE_HEADER] = str(after_sequence)
        try:
            answer = await self._jetstream.publish(subject, payload, headers, patience_s=OPERATION_TIMEOUT_S)
            return answer.seq
        except (JetStreamRefused, BusUnavailable) as error:
            if isinstance(error, JetStreamRefused) and error.error_code in WRONG_LAST_SEQUENCE:
                return await self._own_sequence(subject, message_id)
            if isinstance(error, JetStreamRefused) and not error.passing:
                raise
            own = await self._own_sequence(subject, message_id)
            if own is None:
                raise
            return own

    async def _own_sequence(self, subject: str, message_id: str) -> int | None:
        last = await self._last(subject)
        return last.sequence if last is not None and last.message_id == message_id else None

    # Watching

    @asynccontextmanager
    async def _feed(self, subject: str, after_sequence: int) -> AsyncIterator[Feed]:
        async with self._deadline("watch", OPERATION_TIMEOUT_S):
            feed = await Feed.open(self._jetstream, self._stream, subject, after_sequence=after_sequence)
        self._feeds.add(feed)
        try:
            yield feed
        finally:
            self._feeds.discard(feed)
            await feed.close()

    async def _require_history(self, revision: int, known_at: float | None) -> None:
        """Raise WatchLost unless the stream still holds every change after ``revision``, deletions included.

        Args:
            revision: where the watch goes on.
            known_at: a monotonic time before all those changes, if one is known.
        """
        async with self._deadline("watch", OPERATION_TIMEOUT_S):
            info = await self._info({})
            if info.state.last_seq < revision:
                raise WatchLost(f"the stream ends at {info.state.last_seq}, before {revision}")
            if revision in {0, info.state.last_seq}:
                return
            if known_at is not None and time.monotonic() - known_at < self._history_s:
                return
            for sequence in (revision, revision + 1):
                message = await self._message({"seq": sequence})
                if message is None or info.ts is None:
                    continue
                if info.ts.timestamp() - message.stored_ms / 1000 < self._history_s:
                    return
        raise WatchLost(f"deletions since {revision} may be forgotten")

    # The bucket

    async def _ensure_stream(self, replicas: int) -> None:
        config = {
            "name": self._stream,
            "subjects": [f"{self._subject_prefix}.>"],
            "retention": "limits",
            "storage": "file",
            "num_replicas": replicas,
            # One message per subject is also what lets a ttl be shorter than a marker's.
            "max_msgs_per_subject": 1,
            "max_msg_size": MESSAGE_BYTES_MAX,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "discard": "new",
            "duplicate_window": _DUPLICATE_WINDOW_S * _NANOSECONDS,
            "allow_direct": False,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_msg_ttl": True,
            "subject_delete_marker_ttl": self._marker_ttl_s * _NANOSECONDS,
        }
        try:
            await self._ask("STREAM.CREATE", config, Answer)
        except JetStreamRefused as refusal:
            if refusal.error_code != STREAM_CONFIG_DIFFERS:
                raise
            present = (await self._info({})).config
            kept = {"num_replicas": max(replicas, present.get("num_replicas", 1))}
            await self._ask("STREAM.UPDATE", {**present, **config, **kept}, Answer)

    @asynccontextmanager
    async def _deadline(self, call: str, timeout_s: float) -> AsyncIterator[None]:
        if self._closed:
            raise MetadataUnavailable("the metadata store is closed")
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as error:
            raise MetadataUnavailable(f"{call}: no answer from JetStream within {timeout_s} s") from error
        except LimitExceeded as error:
            raise InvalidInput(str(error)) from error
        except (BusUnavailable, JetStreamRefused) as error:
            raise MetadataUnavailable(f"{call}: {error}") from error


def _is_marker(headers: Mapping[str, str]) -> bool:
    return headers.get(OPERATION_HEADER) in {"DEL", "PURGE"} or MARKER_HEADER in headers


def _live_revision(message: StoredMessage | None) -> int:
    """The revision a caller may expect: 0 when the key is absent, deleted or expired."""
    return 0 if message is None or _is_marker(message.headers) else message.sequence
