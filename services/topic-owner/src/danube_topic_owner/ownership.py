"""Decides which bundles this process owns: follows assignments, claims bundles and gives them up."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping

import structlog

from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Assignment, Claim, Topic, decode_record, encode_record
from danube_common.errors import Conflict, DanubeError, MetadataUnavailable
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change
from danube_common.model.bundle import Bundle
from danube_common.runtime.ports import Ports
from danube_common.runtime.registration import Registration, RegistrationState
from danube_topic_owner.bundle_owner import BundleOwner
from danube_topic_owner.context import OwnerContext
from danube_topic_owner.delivery.consumer import Window
from danube_topic_owner.journal.claim import claim_journal
from danube_topic_owner.owner_metrics import OwnerMetrics

RETRY_WAIT_S = 0.5
HANDOVER_WAIT_S = 2.0
"""A living owner has this long to journal its cursors and release its claim; then the bundle is claimed."""
RELEASE_TIMEOUT_S = 1.0
"""A claim that cannot be released in time stays: the next owner may claim the bundle all the same."""

_log = structlog.get_logger(__name__)


class Ownership:
    """Owns the bundles that are assigned to this instance.

    A bundle is given up when the metadata store shows another assignment, another claim or the loss of this
    instance's registration. While the store does not answer, bundles are kept: no instance can claim one,
    and a bundle that was claimed before has a journal that refuses this owner's writes
    (docs/adr/0006-a-metadata-outage-is-not-a-lost-lease.md).

    Args:
        instance_id: of this process.
        ports: bus, log, journal and metadata store.
        catalogue: topics, claims and instances of the cluster.
        registration: of this instance in the metadata store.
        window: bounds of each consumer's unacknowledged messages.
        metrics: of this process.
    """

    def __init__(
        self,
        instance_id: str,
        ports: Ports,
        catalogue: Catalogue,
        *,
        registration: Registration,
        window: Window,
        metrics: OwnerMetrics,
    ) -> None:
        self._instance_id = instance_id
        self._store = ports.metadata
        self._ports = ports
        self._catalogue = catalogue
        self._registration = registration
        self._window = window
        self._metrics = metrics
        self._nonce = secrets.token_hex(8)
        self._assigned: set[Bundle] = set()
        self._owners: dict[Bundle, BundleOwner] = {}
        self._lost: set[Bundle] = set()
        self._awaited: dict[Bundle, float] = {}
        """When the wait for the handover of a bundle by its present owner began (monotonic seconds)."""
        self._alive = False
        self._leaving = False
        self._wake = asyncio.Event()
        self._mirror: Mirror | None = None

    async def open(self) -> None:
        """Read the assignments and follow their changes. Raises MetadataUnavailable."""
        self._mirror = await Mirror.open(self._store, keys.ASSIGNMENTS, self._assignment_changed)
        self._catalogue.on_owner(self._owner_changed)
        self._catalogue.on_vacancy(lambda _bundle: self._wake.set())
        self._catalogue.on_topic_gone(self._topic_gone)
        self._ports.bus.on_reconnect(self._bus_returned)
        self._registration.on_change(self._registration_changed)

    async def close(self) -> None:
        """Journal every bundle's cursors and give the bundles up. Idempotent."""
        if self._mirror is not None:
            await self._mirror.close()
        await asyncio.gather(*(self._give_up(bundle) for bundle in list(self._owners)))

    def leave(self) -> None:
        """Give every bundle up and claim none; `run` returns when that is done."""
        self._leaving = True
        self._wake.set()

    @property
    def owners(self) -> Mapping[Bundle, BundleOwner]:
        """The present owners by bundle."""
        return self._owners

    def missing(self) -> list[Bundle]:
        """Return the bundles that are assigned to this instance and not served yet."""
        return sorted(self._assigned - self._owners.keys())

    async def run(self) -> None:
        """Take up and give up bundles until cancelled, or until `leave` has released all."""
        while not (self._leaving and not self._owners):
            await self._wake.wait()
            self._wake.clear()
            wanted = set(self._assigned) if self._alive and not self._leaving else set()
            unwanted = self._owners.keys() - wanted
            if unwanted and self._alive and not self._leaving and not await self._store_answers():
                # No instance can claim a bundle now: bundles given up would have no owner.
                unwanted = set()
                asyncio.get_running_loop().call_later(RETRY_WAIT_S, self._wake.set)
            given_up = unwanted | (self._lost & self._owners.keys())
            self._lost.clear()
            await asyncio.gather(*(self._give_up(bundle) for bundle in given_up))
            due = [bundle for bundle in sorted(wanted - self._owners.keys()) if not self._is_awaited(bundle)]
            results = await asyncio.gather(*(self._take_up(bundle) for bundle in due))
            self._awaited = {bundle: since for bundle, since in self._awaited.items() if bundle in wanted}
            self._metrics.bundles.labels(self._metrics.broker).set(len(self._owners))
            if not all(results):
                asyncio.get_running_loop().call_later(RETRY_WAIT_S, self._wake.set)

    def _is_awaited(self, bundle: Bundle) -> bool:
        """Return whether another living owner still has the bundle and may be about to hand it over.

        To claim the bundle at once is safe, but loses the acknowledgements that its owner has not journaled.
        """
        holder = self._catalogue.owner(bundle)
        if holder is None or holder == self._instance_id or not self._catalogue.is_live(holder):
            self._awaited.pop(bundle, None)
            return False
        loop = asyncio.get_running_loop()
        if bundle not in self._awaited:
            self._awaited[bundle] = loop.time()
            loop.call_later(HANDOVER_WAIT_S, self._wake.set)
        return loop.time() < self._awaited[bundle] + HANDOVER_WAIT_S

    async def _store_answers(self) -> bool:
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._store.get(keys.LEADER)
        except (MetadataUnavailable, TimeoutError):
            return False
        return True

    async def _take_up(self, bundle: Bundle) -> bool:
        try:
            epoch = await self._claim(bundle)
            claim = await claim_journal(self._ports.journal, bundle, epoch, self._instance_id, time.monotonic)
            context = OwnerContext(
                bundle,
                claim,
                self._ports,
                self._catalogue,
                window=self._window,
                metrics=self._metrics,
                on_lost=lambda: self._lose(bundle),
                registered=lambda: self._registration.held,
            )
            owner = await BundleOwner.open(context)
        except DanubeError as error:
            _log.warning("claim_failed", bundle=str(bundle), error=str(error))
            return False
        try:
            await owner.start()
        except DanubeError as error:
            _log.warning("take_over_failed", bundle=str(bundle), epoch=epoch, error=str(error))
            await owner.stop()
            return False
        self._owners[bundle] = owner
        _log.info("bundle_owned", bundle=str(bundle), epoch=epoch)
        return True

    async def _claim(self, bundle: Bundle) -> int:
        """Write the claim and return its revision, which is the epoch.

        Raises Conflict if another instance claims the bundle meanwhile, or if the bundle is assigned to
        another instance: the mirrored assignments may be older than the store.
        """
        assigned = await self._store.get(keys.assignment_key(bundle))
        if assigned is None or decode_record(Assignment, assigned.value).instance_id != self._instance_id:
            raise Conflict(f"bundle {bundle} is assigned to another owner")
        key = keys.owner_key(bundle)
        present = await self._store.get(key)
        claim = encode_record(Claim(self._instance_id, self._nonce))
        return await self._store.put(key, claim, expected_revision=present.revision if present else 0)

    async def _give_up(self, bundle: Bundle) -> None:
        owner = self._owners.pop(bundle)
        epoch = owner.context.epoch
        await owner.stop()
        if (self._catalogue.epoch(bundle) or 0) <= epoch:
            await self._release(bundle, epoch)
        _log.info("bundle_given_up", bundle=str(bundle), epoch=epoch)

    async def _release(self, bundle: Bundle, epoch: int) -> None:
        """Delete the claim, so that the next owner need not wait for a handover."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._store.delete(keys.owner_key(bundle), expected_revision=epoch)
        except Conflict:
            return  # the next owner has it already
        except (MetadataUnavailable, TimeoutError) as error:
            _log.info("claim_left", bundle=str(bundle), epoch=epoch, reason=str(error))

    def _lose(self, bundle: Bundle) -> None:
        self._lost.add(bundle)
        self._wake.set()

    def _registration_changed(self) -> None:
        state = self._registration.state
        if state is not RegistrationState.UNCONFIRMED:
            self._alive = state is RegistrationState.HELD
        for owner in self._owners.values():
            owner.context.dispatcher.resume()
        self._wake.set()

    def _assignment_changed(self, change: Change) -> None:
        bundle = Bundle.parse(change.key.removeprefix(keys.ASSIGNMENTS))
        mine = (
            change.value is not None
            and decode_record(Assignment, change.value).instance_id == self._instance_id
        )
        if mine:
            self._assigned.add(bundle)
        else:
            self._assigned.discard(bundle)
        self._wake.set()

    def _owner_changed(self, bundle: Bundle, epoch: int) -> None:
        owner = self._owners.get(bundle)
        if owner is not None and epoch > owner.context.epoch:
            self._lose(bundle)

    def _topic_gone(self, topic: Topic) -> None:
        owner = self._owners.get(topic.home)
        if owner is not None:
            owner.drop_topic(topic)

    def _bus_returned(self) -> None:
        for owner in self._owners.values():
            owner.reader.check()
