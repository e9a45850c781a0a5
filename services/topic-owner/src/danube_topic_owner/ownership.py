"""Which bundles this process owns: assignments taken up, claims made, bundles given up."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import structlog

from danube_common.bus.port import Subscription
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import Assignment, Claim, Topic, decode_record, encode_record
from danube_common.errors import Conflict, DanubeError, MetadataUnavailable, Unavailable
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.runtime.registration import Registration, RegistrationState
from danube_common.wire.owner import OWNER, OwnerReply, OwnerRequest, non_reliable_subject, owner_subject
from danube_topic_owner.api.requests import Requests
from danube_topic_owner.bundle_owner import BundleOwner, OwnerPorts, Window
from danube_topic_owner.delivery.sessions import Sessions
from danube_topic_owner.owner_metrics import OwnerMetrics

RETRY_WAIT_S = 0.5
HANDOVER_WAIT_S = 2.0
"""So long a living owner may take to journal what it knows and give its claim up; then it is taken away."""
RELEASE_TIMEOUT_S = 1.0
"""A claim that cannot be given up in time is left: whoever is next takes it anyway."""

_log = structlog.get_logger(__name__)


class BundleServer:
    """A bundle being served: its owner and what listens for it."""

    def __init__(self, owner: BundleOwner) -> None:
        self.owner = owner
        self.sessions = Sessions(owner)
        self._requests = Requests(owner, self.sessions)
        self._listeners: list[Subscription] = []
        self._stopping = False

    async def start(self, ports: OwnerPorts) -> None:
        """Raises DanubeError when the bundle cannot be taken over now."""
        owner = self.owner
        await owner.start()
        owner.spawn(self.sessions.run(), "sessions")
        subject = owner_subject(owner.bundle, owner.epoch)
        self._listeners.append(
            await ports.bus.subscribe(non_reliable_subject(owner.bundle), owner.on_fast_frame)
        )
        self._listeners.append(await ports.bus.serve(subject, OWNER.handler(self.answer)))

    async def answer(self, request: OwnerRequest) -> OwnerReply:
        """Carry out a request. Raises Unavailable while the bundle is given up: the next owner answers."""
        if self._stopping:
            raise Unavailable("the bundle is changing its owner")
        return await self._requests.answer(request)

    async def stop(self) -> None:
        """Take in nothing more, then end with everything journaled that was answered."""
        self._stopping = True
        for listener in self._listeners:
            await listener.close()
        await self.owner.stop()


class Ownership:
    """Follows the assignments to this instance.

    While the metadata store does not answer, bundles are kept: nobody can claim one then, and one that was
    claimed before is recognised by its journal (ADR 0006). They are given up when the store shows another
    assignment, claim or holder of this instance's place, and handed over only while it answers.
    """

    def __init__(
        self,
        instance_id: str,
        store: MetadataStore,
        ports: OwnerPorts,
        catalogue: Catalogue,
        *,
        place: Registration,
        window: Window,
        metrics: OwnerMetrics,
    ) -> None:
        self._instance_id = instance_id
        self._store = store
        self._ports = ports
        self._catalogue = catalogue
        self._place = place
        self._window = window
        self._metrics = metrics
        self._nonce = secrets.token_hex(8)
        self._assigned: set[Bundle] = set()
        self._owned: dict[Bundle, BundleServer] = {}
        self._lost: set[Bundle] = set()
        self._awaited: dict[Bundle, float] = {}
        """Since when (monotonic seconds) a bundle's present owner is given time to hand it over."""
        self._alive = False
        self._leaving = False
        self._wake = asyncio.Event()
        self._mirror: Mirror | None = None

    async def open(self) -> None:
        """Learn the present assignments. Raises MetadataUnavailable."""
        self._mirror = await Mirror.open(self._store, keys.ASSIGNMENTS, self._assignment_changed)
        self._catalogue.on_owner(self._owner_changed)
        self._catalogue.on_vacancy(lambda _bundle: self._wake.set())
        self._catalogue.on_topic_gone(self._topic_gone)
        self._ports.bus.on_reconnect(self._bus_returned)
        self._place.on_change(self._standing_changed)

    async def close(self) -> None:
        """Give every bundle up, journaling what is known. Idempotent."""
        if self._mirror is not None:
            await self._mirror.close()
        await asyncio.gather(*(self._give_up(bundle) for bundle in list(self._owned)))

    def leave(self) -> None:
        """Give every bundle up and take none; `run` returns when that is done."""
        self._leaving = True
        self._wake.set()

    @property
    def owners(self) -> dict[Bundle, BundleOwner]:
        """What is served now."""
        return {bundle: owned.owner for bundle, owned in self._owned.items()}

    @property
    def bundles(self) -> list[Bundle]:
        return sorted(self._owned)

    def missing(self) -> list[Bundle]:
        """Assigned to this instance and not served yet."""
        return sorted(self._assigned - self._owned.keys())

    async def run(self) -> None:
        """Take up and give up bundles until cancelled, or until `leave` was called and nothing is left."""
        while not (self._leaving and not self._owned):
            await self._wake.wait()
            self._wake.clear()
            wanted = set(self._assigned) if self._alive and not self._leaving else set()
            unwanted = self._owned.keys() - wanted
            if unwanted and self._alive and not self._leaving and not await self._store_answers():
                # Nobody could take them over: they would be nobody's until it does.
                unwanted = set()
                asyncio.get_running_loop().call_later(RETRY_WAIT_S, self._wake.set)
            given_up = unwanted | (self._lost & self._owned.keys())
            self._lost.clear()
            await asyncio.gather(*(self._give_up(bundle) for bundle in given_up))
            due = [bundle for bundle in sorted(wanted - self._owned.keys()) if not self._is_awaited(bundle)]
            results = await asyncio.gather(*(self._take_up(bundle) for bundle in due))
            self._awaited = {bundle: since for bundle, since in self._awaited.items() if bundle in wanted}
            self._metrics.bundles.labels(self._metrics.broker).set(len(self._owned))
            if not all(results):
                asyncio.get_running_loop().call_later(RETRY_WAIT_S, self._wake.set)

    def _is_awaited(self, bundle: Bundle) -> bool:
        """Whether another living owner still has the bundle and may be about to hand it over.

        Claiming at once would be safe as well, but cost the acknowledgements that it has not journaled.
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
            owned = BundleServer(
                BundleOwner(
                    bundle,
                    epoch,
                    self._instance_id,
                    self._ports,
                    self._catalogue,
                    window=self._window,
                    metrics=self._metrics,
                    on_lost=self._losing(bundle),
                    registered=lambda: self._place.held,
                )
            )
        except DanubeError as error:
            _log.warning("claim_failed", bundle=str(bundle), error=str(error))
            return False
        try:
            await owned.start(self._ports)
        except DanubeError as error:
            _log.warning("take_over_failed", bundle=str(bundle), epoch=epoch, error=str(error))
            await owned.stop()
            return False
        self._owned[bundle] = owned
        _log.info("bundle_owned", bundle=str(bundle), epoch=epoch)
        return True

    async def _claim(self, bundle: Bundle) -> int:
        """Write the claim; its revision is the epoch.

        Raises Conflict when another claims meanwhile, or when the bundle is assigned to another by now: this
        view may be older than the store, which was away.
        """
        assigned = await self._store.get(keys.assignment_key(bundle))
        if assigned is None or decode_record(Assignment, assigned.value).instance_id != self._instance_id:
            raise Conflict(f"bundle {bundle} is assigned to another owner")
        key = keys.owner_key(bundle)
        present = await self._store.get(key)
        claim = encode_record(Claim(self._instance_id, self._nonce))
        return await self._store.put(key, claim, expected_revision=present.revision if present else 0)

    async def _give_up(self, bundle: Bundle) -> None:
        owned = self._owned.pop(bundle)
        epoch = owned.owner.epoch
        await owned.stop()
        if (self._catalogue.epoch(bundle) or 0) <= epoch:
            await self._release(bundle, epoch)
        _log.info("bundle_given_up", bundle=str(bundle), epoch=epoch)

    async def _release(self, bundle: Bundle, epoch: int) -> None:
        """Delete the claim, so that the next owner need not wait."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._store.delete(keys.owner_key(bundle), expected_revision=epoch)
        except Conflict:
            return  # the next owner has it already
        except (MetadataUnavailable, TimeoutError) as error:
            _log.info("claim_left", bundle=str(bundle), epoch=epoch, reason=str(error))

    def _losing(self, bundle: Bundle) -> Callable[[], None]:
        def lost() -> None:
            self._lost.add(bundle)
            self._wake.set()

        return lost

    def _standing_changed(self) -> None:
        standing = self._place.standing
        if standing is not RegistrationState.UNCONFIRMED:
            self._alive = standing is RegistrationState.HELD
        for owned in self._owned.values():
            owned.owner.dispatcher.resume()
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
        owned = self._owned.get(bundle)
        if owned is not None and epoch > owned.owner.epoch:
            self._losing(bundle)()

    def _topic_gone(self, topic: Topic) -> None:
        owned = self._owned.get(topic.home)
        if owned is not None:
            owned.owner.drop_topic(topic)

    def _bus_returned(self) -> None:
        for owned in self._owned.values():
            owned.owner.reader.check()
