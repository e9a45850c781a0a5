"""Gathers the facts about a cluster, as far as an admin instance reaches them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import msgspec

from danube_admin_service.api.archive_view import is_unreadable
from danube_admin_service.cluster.process_http import body_of, open_session
from danube_admin_service.cluster.view import Cluster
from danube_admin_service.doctor.rules import (
    Facts,
    ProcessFacts,
    SegmentFacts,
    StreamFacts,
    SubscriptionFacts,
)
from danube_common.archive.records import ManifestEntry
from danube_common.cluster import keys
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.partitioning import existing_topics
from danube_common.cluster.records import Instance, Topic, read_records
from danube_common.errors import BusUnavailable, DanubeError
from danube_common.journal.jetstream import STREAM_NAME as JOURNAL
from danube_common.log.jetstream import stream_name
from danube_common.metadata.port import MetadataStore
from danube_common.nats.connection import Connection
from danube_common.nats.jetstream import JetStream, JetStreamRefused, StreamAnswer
from danube_common.runtime.version import platform_version
from danube_common.wire.owner.topics import DescribeTopic

ANSWER_TIMEOUT_S: Final = 3.0
ANSWER_BYTES_MAX: Final = 64 << 10
AT_ONCE_MAX: Final = 16
TOPICS_MAX: Final = 500
"""So many topics are asked for; a cluster with more would be asked for minutes."""


class _Replica(msgspec.Struct):
    current: bool = True
    offline: bool = False


class _Replicas(msgspec.Struct):
    replicas: list[_Replica] | None = None


class _StreamAnswer(StreamAnswer):
    cluster: _Replicas | None = None


class Look:
    """One look at the cluster."""

    def __init__(
        self, store: MetadataStore, cluster: Cluster, owners: OwnerClient, connection: Connection
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._owners = owners
        self._connection = connection
        self._jetstream = JetStream(connection, attempt_timeout_s=ANSWER_TIMEOUT_S)

    async def facts(self, *, topics_max: int = TOPICS_MAX) -> Facts:
        """Return what is seen now, with the subscriptions of so many topics. Raises MetadataUnavailable."""
        registered = await read_records(self._store, keys.REGISTER, Instance)
        layout = self._cluster.layout
        bundles = layout.bundles() if layout else []
        async with open_session(ANSWER_TIMEOUT_S) as session:
            processes = await asyncio.gather(*(_process(session, one) for one in registered))
        streams = [await self._stream(name) for name in (JOURNAL, *map(stream_name, bundles))]
        topics, _ = existing_topics((await self._store.list(keys.TOPICS)).entries)
        looked = await self._subscriptions(topics[:topics_max])
        claimed = self._cluster.claimed
        return Facts(
            now_ms=_now_ms(),
            own_version=platform_version(),
            processes=processes,
            has_leader=self._cluster.leader is not None,
            unowned=[str(bundle) for bundle in bundles if bundle not in claimed],
            nats_version=str(self._connection.connected_server_version),
            nats_clock_ahead_ms=await self._nats_clock_ahead_ms(),
            streams=[stream for stream in streams if stream is not None],
            segments=await self._segments({one.instance_id for one in registered}),
            subscriptions=[one for found in looked if found is not None for one in found],
            topics_skipped=len(topics) - sum(found is not None for found in looked),
        )

    async def _stream(self, name: str) -> StreamFacts | None:
        try:
            answer = await self._jetstream.ask(
                f"STREAM.INFO.{name}", {}, _StreamAnswer, patience_s=ANSWER_TIMEOUT_S
            )
        except (JetStreamRefused, BusUnavailable):
            return None  # a bundle that had no topic yet has no log
        others = (answer.cluster.replicas if answer.cluster else None) or []
        return StreamFacts(
            name,
            answer.state.bytes,
            int(answer.config.get("max_bytes", 0)),
            int(answer.config.get("num_replicas", 1)),
            sum(one.offline or not one.current for one in others),
        )

    async def _nats_clock_ahead_ms(self) -> int:
        sent_ms = _now_ms()
        try:
            answer = await self._jetstream.ask(
                f"STREAM.INFO.{JOURNAL}", {}, StreamAnswer, patience_s=ANSWER_TIMEOUT_S
            )
        except (JetStreamRefused, BusUnavailable):
            return 0
        return 0 if answer.ts is None else _ahead_ms(round(answer.ts.timestamp() * 1000), sent_ms)

    async def _segments(self, live: set[str]) -> SegmentFacts:
        segments = [
            segment
            for entry in await read_records(self._store, keys.MANIFESTS, ManifestEntry)
            for segment in entry.segments
            if segment.retained
        ]
        unreadable = [one for one in segments if is_unreadable(one, live)]
        away = [one for one in segments if set(one.holders) - live and one not in unreadable]
        return SegmentFacts(
            holder_away=len(away),
            unreadable=len(unreadable),
            damaged=sum(bool(one.quarantined) for one in segments),
            waiting=sum(one.bound_for is not None for one in segments),
        )

    async def _subscriptions(self, topics: Sequence[Topic]) -> list[list[SubscriptionFacts] | None]:
        asking = asyncio.Semaphore(AT_ONCE_MAX)

        async def of(topic: Topic) -> list[SubscriptionFacts] | None:
            request = DescribeTopic(topic.name)
            try:
                async with asking:
                    told = await self._owners.ask(topic.home, request, timeout_s=ANSWER_TIMEOUT_S)
            except DanubeError:
                return None
            return [
                SubscriptionFacts(topic.name, one.name, one.unacked, one.blocked)
                for one in told.subscriptions
            ]

        return await asyncio.gather(*map(of, topics))


async def _process(session: aiohttp.ClientSession, instance: Instance) -> ProcessFacts:
    sent_ms = _now_ms()
    facts = ProcessFacts(instance.kind, instance.instance_id, instance.http_url)
    told = await _about(session, instance.http_url)
    if told is None:
        return facts
    try:
        return ProcessFacts(
            facts.kind,
            facts.instance_id,
            facts.http_url,
            version=str(told["version"]),
            clock_ahead_ms=_ahead_ms(int(told["now_ms"]), sent_ms),
            **{name: int(told[name]) for name in _NUMBERS if name in told},
        )
    except (LookupError, ValueError, TypeError):
        return facts


_NUMBERS: Final = ("open_files_max", "disk_free_bytes", "disk_bytes", "certificate_expires_ms")


async def _about(session: aiohttp.ClientSession, http_url: str) -> dict[str, Any] | None:
    """Return what a process tells at /about; None if it does not answer."""
    try:
        answer = await body_of(session, f"{http_url}/about", ANSWER_BYTES_MAX)
        return msgspec.json.decode(answer, type=dict[str, Any])
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
        return None


def _ahead_ms(told_ms: int, sent_ms: int) -> int:
    """How far a clock is ahead that was read between ``sent_ms`` and now; 0 if it may be right."""
    now_ms = _now_ms()
    return min(told_ms - sent_ms, 0) if told_ms <= now_ms else told_ms - now_ms


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
