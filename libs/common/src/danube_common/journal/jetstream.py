"""State journals over JetStream: one stream, one subject per bundle."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

from danube_common.errors import BusUnavailable, JournalFenced, LogUnavailable
from danube_common.journal.port import JournalRecord
from danube_common.model.bundle import Bundle
from danube_common.nats.connection import Connection
from danube_common.nats.jetstream import (
    EXPECTED_SEQUENCE_HEADER,
    MESSAGE_ID_HEADER,
    WRONG_LAST_SEQUENCE,
    JetStreamRefused,
    RetryDeadline,
)
from danube_common.nats.stream import Stream

STREAM_NAME = "DANUBE_JOURNAL"
APPEND_TIMEOUT_S = 5.0
REPLAY_BATCH_RECORDS = 1000
REPLAY_BATCH_BYTES = 4 << 20
REPLAY_PATIENCE_S = 10.0
"""A replica may be so long behind the stream's leader before a replay is given up."""
DUPLICATE_WINDOW_S = 120
DEFAULT_BYTES_MAX = 4 << 30
RESERVE_PART = 4
"""A quarter of the bound comes on top of it for the snapshots that make room in a full journal."""


class JetStreamJournal:
    """A `StateJournal` that fences by JetStream's expected-last-subject-sequence."""

    def __init__(
        self,
        connection: Connection,
        *,
        replicas: int = 1,
        bytes_max: int = DEFAULT_BYTES_MAX,
        append_timeout_s: float = APPEND_TIMEOUT_S,
    ) -> None:
        """Use ``connection``, which stays the caller's.

        Args:
            connection: shared with the bus.
            replicas: how many servers of a cluster keep the journals.
            bytes_max: bound on all bundles' records together; beyond it appends raise LogFull. The reserve
                for snapshots is not part of it.
            append_timeout_s: how long one append is tried, across a reconnect if need be.
        """
        self._stream = Stream(connection, STREAM_NAME)
        self._bytes_max = bytes_max
        self._reserve_open = False
        self._append_timeout_s = append_timeout_s
        self._writer_id = secrets.token_hex(8)
        self._config: dict[str, Any] = {
            "subjects": [journal_subject("*")],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_bytes": bytes_max,
            "num_replicas": replicas,
            "duplicate_window": DUPLICATE_WINDOW_S * 1_000_000_000,
            "allow_direct": True,
        }

    async def open(self) -> None:
        """See the port."""
        await self._stream.ensure(self._config)

    async def append(
        self, bundle: Bundle, data: bytes, *, expected_sequence: int, reserve: bool = False
    ) -> int:
        """See the port. An append that this writer repeats is recognised."""
        subject = journal_subject(bundle)
        record_id = self._record_id(bundle, data, expected_sequence)
        headers = {
            MESSAGE_ID_HEADER: record_id,
            EXPECTED_SEQUENCE_HEADER: str(expected_sequence),
        }
        patience = RetryDeadline(self._append_timeout_s)
        while True:
            try:
                sequence, _ = await self._stream.publish(subject, data, headers, timeout_s=patience.left_s)
                return sequence
            except JetStreamRefused as refusal:
                if refusal.error_code in WRONG_LAST_SEQUENCE:
                    return await self._own_record(bundle, record_id, expected_sequence)
                if refusal.full and reserve and not self._reserve_open:
                    await self._bound(self._bytes_max + self._bytes_max // RESERVE_PART)
                    self._reserve_open = True
                    continue
                if not refusal.passing:
                    self._reserve_open = False  # another owner may have closed it
                    raise refusal.as_unavailable() from refusal
                reason: Exception = refusal
            except BusUnavailable as error:
                reason = error
            if not await patience.wait():
                raise LogUnavailable(f"journal of bundle {bundle}: {reason}") from reason

    async def replay(self, bundle: Bundle) -> AsyncIterator[JournalRecord]:
        """See the port."""
        last = await self._stream.last(journal_subject(bundle))
        if last is None:
            return
        following = 1
        patience = RetryDeadline(REPLAY_PATIENCE_S)
        while following <= last.sequence:
            batch = await self._stream.read(
                journal_subject(bundle),
                following,
                messages_max=REPLAY_BATCH_RECORDS,
                bytes_max=REPLAY_BATCH_BYTES,
            )
            for message in batch.messages:
                yield JournalRecord(message.sequence, message.data)
                following = message.sequence + 1
            # A replica that has nothing more, but not the last record, is behind the leader.
            if batch.complete and following <= last.sequence and not await patience.wait():
                raise LogUnavailable(f"journal of bundle {bundle}: record {last.sequence} cannot be read")

    async def discard(self, bundle: Bundle, before_sequence: int) -> None:
        """See the port. The last record always stays, because it carries the fence."""
        last = await self._stream.last(journal_subject(bundle))
        if last is None:
            return
        await self._stream.purge(below=min(before_sequence, last.sequence), subject=journal_subject(bundle))
        if self._reserve_open and (await self._stream.extent()).stored_bytes < self._bytes_max:
            await self._bound(self._bytes_max)
            self._reserve_open = False

    async def _bound(self, bytes_max: int) -> None:
        await self._stream.ensure(self._config | {"max_bytes": bytes_max})

    def _record_id(self, bundle: Bundle, data: bytes, expected_sequence: int) -> str:
        # The bundle is part of it, because the duplicate window spans all subjects of the stream.
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        return f"{self._writer_id}-{bundle}-{expected_sequence}-{digest}"

    async def _own_record(self, bundle: Bundle, record_id: str, expected_sequence: int) -> int:
        """The fence is closed: by this very call, if an earlier attempt was stored and its answer lost."""
        last = await self._stream.last(journal_subject(bundle))
        if last is None or last.message_id != record_id:
            found = "no record" if last is None else f"record {last.sequence}"
            raise JournalFenced(
                f"bundle {bundle}: the last record is not {expected_sequence} any more, but {found}"
            )
        return last.sequence


def journal_subject(bundle: Bundle | str) -> str:
    """Return the subject of a bundle's records in the stream."""
    return f"danube.journal.{bundle}"
