"""Leader election among admin instances: a lease on ``/cluster/leader``, taken by compare-and-set."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec
import structlog

from danube_admin_service.cluster.view import Cluster, LeaderRecord
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record, read_record
from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.lease import Lease
from danube_common.metadata.port import MetadataStore
from danube_common.metadata.rewrite import rewrite

LEADER_TTL_S: Final = 5.0
STAND_AGAIN_S: Final = 1.0
"""How often a follower tries at least, in case it missed that the key was deleted."""
STAND_PAUSE_S: Final = 0.05
"""The pause between two attempts, because the view may lag behind the store."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("danube.admin")


class Phase(StrEnum):
    """The state of this instance in the election."""

    FOLLOWING = "following"
    LEADING = "leading"


class Term(msgspec.Struct, frozen=True):
    """How many elections were won so far; the present leader has won the last one."""

    number: int


class Election:
    """Takes part in the election as long as it runs.

    Args:
        store: the metadata store that holds the key.
        cluster: a view of the same store, which shows when the key is deleted.
        instance_id: the id of this instance.
        on_leading: called each time this instance begins to lead.
        ttl_s: the lease in seconds: how long the key of a dead leader stays.
        clock: monotonic seconds; a leader that cannot renew its lease stops leading by this clock.
    """

    def __init__(
        self,
        store: MetadataStore,
        cluster: Cluster,
        instance_id: str,
        *,
        on_leading: Callable[[], None] = lambda: None,
        ttl_s: float = LEADER_TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._instance_id = instance_id
        self._on_leading = on_leading
        self._ttl_s = ttl_s
        self._clock = clock
        self._lease: Lease | None = None

    @property
    def phase(self) -> Phase:
        """The phase at this moment; right also after the process was paused."""
        leading = self._lease is not None and self._lease.held
        return Phase.LEADING if leading else Phase.FOLLOWING

    @property
    def leading(self) -> bool:
        """Whether this instance leads at this moment."""
        return self.phase is Phase.LEADING

    async def run(self) -> None:
        """Run until cancelled. A leader then releases the lease, so that another one leads at once."""
        # A restarted process takes over the key of its previous run. Only at the start: otherwise two
        # processes configured with the same id would take the key from each other for ever.
        left_behind = self._cluster.leader == self._instance_id
        lease = await self._stand(self._cluster.revision(keys.LEADER) if left_behind else 0)
        while True:
            if lease is None:
                await asyncio.sleep(STAND_PAUSE_S)
                await self._cluster.until_vacant(STAND_AGAIN_S)
            else:
                try:
                    await self._lead(lease)
                finally:
                    self._lease = None
                    await lease.release()
            lease = await self._stand(0)

    async def _stand(self, expected_revision: int) -> Lease | None:
        record = LeaderRecord(self._instance_id, secrets.token_hex(8))
        try:
            return await Lease.acquire(
                self._store,
                keys.LEADER,
                encode_record(record),
                self._ttl_s,
                expected_revision=expected_revision,
                clock=self._clock,
            )
        except Conflict:
            return None
        except MetadataUnavailable as error:
            _log.info("leader_election_waits", reason=str(error))
            return None

    async def _lead(self, lease: Lease) -> None:
        self._lease = lease
        _log.info("leading", instance_id=self._instance_id)
        try:
            await rewrite(self._store, keys.TERM, _next_term)
        except MetadataUnavailable as error:
            _log.warning("term_not_counted", reason=str(error))
        self._on_leading()
        await lease.lost.wait()
        _log.warning("leadership_lost", instance_id=self._instance_id)


async def read_term(store: MetadataStore) -> int:
    """Return how many elections were won so far. Raises MetadataUnavailable."""
    term = await read_record(store, keys.TERM, Term)
    return term.number if term else 0


def _next_term(value: bytes | None) -> bytes:
    return encode_record(Term(1 + (decode_record(Term, value).number if value is not None else 0)))
