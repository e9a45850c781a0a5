"""The client of topic-owners: sends requests to the current owner of a bundle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

import msgspec

from danube_common.bus.port import Bus
from danube_common.errors import BusUnavailable, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.wire.envelope import Request
from danube_common.wire.owner.protocol import OWNER, owner_subject
from danube_common.wire.owner.sessions import Credit

OWNER_TIMEOUT_S = 15.0
"""A request waits this long for a bundle's owner: longer than a takeover may take."""
ATTEMPT_TIMEOUT_S = 2.0
"""One attempt waits this long at most: a paused owner must not hold a call to its deadline."""
RETRY_WAIT_S = 0.02
RETRY_WAIT_MAX_S = 0.25

R = TypeVar("R", bound=msgspec.Struct)

OwnerListener = Callable[[Bundle, int], None]
"""Called with (bundle, epoch) when a bundle has a new owner."""


class BundleEpochs(Protocol):
    """A view of the cluster that knows the present owners of bundles."""

    def epoch(self, bundle: Bundle) -> int | None:
        """Return the epoch of the bundle's present owner, or None while it has none."""

    def on_owner(self, listener: OwnerListener) -> None:
        """Call ``listener`` whenever a bundle has a new owner."""


class OwnerClient:
    """Sends requests to the owner of a bundle, and again to the next owner when it changes.

    Attributes:
        timeout_s: how long a request waits for its answer, unless it says so itself.
    """

    def __init__(self, bus: Bus, epochs: BundleEpochs, *, timeout_s: float = OWNER_TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._bus = bus
        self._epochs = epochs
        self._changes: dict[Bundle, asyncio.Future[None]] = {}
        epochs.on_owner(self._owner_changed)

    async def ask(
        self,
        bundle: Bundle,
        request: Request[R],
        *,
        timeout_s: float | None = None,
        repeat: bool = True,
    ) -> R:
        """Return the owner's answer; wait through a change of owner for up to ``timeout_s``.

        Requests are absolute, so they may be repeated. ``repeat=False`` sends the request once, for values
        that would be outdated by a second attempt.

        Raises:
            DanubeError: the error the owner refused with.
            Unavailable: no owner answered in time.
        """
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        wait_s = RETRY_WAIT_S
        while True:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise Unavailable(f"no owner of bundle {bundle} answered within {timeout_s:g} s")
            with suppress(Unavailable):
                return await self._attempt(bundle, request, min(remaining_s, ATTEMPT_TIMEOUT_S))
            if not repeat:
                raise Unavailable(f"the owner of bundle {bundle} did not answer")
            await self._pause(bundle, min(wait_s, max(deadline - time.monotonic(), 0)))
            wait_s = min(wait_s * 2, RETRY_WAIT_MAX_S)

    async def _attempt(self, bundle: Bundle, request: Request[R], timeout_s: float) -> R:
        """Ask the present owner once. Raises Unavailable at once when another owner takes over."""
        epoch = self._epochs.epoch(bundle)
        if epoch is None:
            raise Unavailable(f"bundle {bundle} has no owner")
        change = self._next_change(bundle)
        subject = owner_subject(bundle, epoch)
        asked = asyncio.ensure_future(OWNER.ask(self._bus, subject, request, timeout_s=timeout_s))
        try:
            await asyncio.wait((asked, change), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise Unavailable(f"bundle {bundle} has another owner")
            return asked.result()
        finally:
            asked.cancel()

    async def _pause(self, bundle: Bundle, wait_s: float) -> None:
        """Wait before the next attempt; a new owner ends it."""
        await asyncio.wait((self._next_change(bundle),), timeout=wait_s)

    def _next_change(self, bundle: Bundle) -> asyncio.Future[None]:
        """Done when the bundle has another owner."""
        change = self._changes.get(bundle)
        if change is None:
            change = self._changes[bundle] = asyncio.get_running_loop().create_future()
        return change

    def _owner_changed(self, bundle: Bundle, _epoch: int) -> None:
        change = self._changes.pop(bundle, None)
        if change is not None:
            change.set_result(None)

    async def grant(self, bundle: Bundle, credit: Credit) -> None:
        """Send credit without asking for an answer. The next Sync repairs a loss."""
        epoch = self._epochs.epoch(bundle)
        if epoch is None:
            return
        try:
            await self._bus.publish(owner_subject(bundle, epoch), OWNER.encode(credit))
        except BusUnavailable:
            return
