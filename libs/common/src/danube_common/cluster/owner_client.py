"""Asking a bundle's owner over the bus, whoever that is at the moment."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from danube_common.bus.port import Bus
from danube_common.cluster.catalogue import Catalogue
from danube_common.errors import BusUnavailable, CorruptData, Unavailable
from danube_common.model.bundle import Bundle
from danube_common.wire.owner import (
    Credit,
    ErrorReply,
    OwnerReply,
    OwnerRequest,
    Reason,
    decode_reply,
    encode,
    error_of,
    owner_subject,
)

ATTEMPT_TIMEOUT_S = 2.0
"""One attempt waits this long at most: a paused owner must not hold a call to its deadline."""
RETRY_WAIT_S = 0.02
RETRY_WAIT_MAX_S = 0.25

Reply = TypeVar("Reply", bound=OwnerReply)


class OwnerClient:
    """Sends requests to the present owner of a bundle, again to the next one when it changes."""

    def __init__(self, bus: Bus, catalogue: Catalogue) -> None:
        self._bus = bus
        self._catalogue = catalogue
        self._changes: dict[Bundle, asyncio.Future[None]] = {}
        catalogue.on_owner(self._owner_changed)

    async def ask(
        self,
        bundle: Bundle,
        request: OwnerRequest,
        reply: type[Reply],
        *,
        timeout_s: float,
        repeat: bool = True,
    ) -> Reply:
        """The owner's answer, awaited through a change of owner for up to ``timeout_s``.

        Every request is absolute, so asking again is harmless. Without ``repeat`` it is asked once: for
        what is outdated by the time it could be asked again.

        Raises:
            DanubeError: the error the owner refused with.
            Unavailable: no owner answered in time.
        """
        deadline = time.monotonic() + timeout_s
        payload = encode(request)
        wait_s = RETRY_WAIT_S
        while True:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise Unavailable(f"no owner of bundle {bundle} answered within {timeout_s:g} s")
            answer = await self._attempt(bundle, payload, min(remaining_s, ATTEMPT_TIMEOUT_S))
            if isinstance(answer, reply):
                return answer
            if isinstance(answer, ErrorReply) and answer.reason is not Reason.UNAVAILABLE:
                raise error_of(answer)
            if answer is not None and not isinstance(answer, ErrorReply):
                raise CorruptData(f"the owner answered {type(answer).__name__} to {type(request).__name__}")
            if not repeat:
                raise Unavailable(f"the owner of bundle {bundle} did not answer")
            await self._pause(bundle, min(wait_s, max(deadline - time.monotonic(), 0)))
            wait_s = min(wait_s * 2, RETRY_WAIT_MAX_S)

    async def _attempt(self, bundle: Bundle, payload: bytes, timeout_s: float) -> OwnerReply | None:
        """One request to the present owner; given up at once when another one takes over."""
        epoch = self._catalogue.epoch(bundle)
        if epoch is None:
            return None
        change = self._next_change(bundle)
        subject = owner_subject(bundle, epoch)
        request = asyncio.ensure_future(self._bus.request(subject, payload, timeout_s=timeout_s))
        try:
            await asyncio.wait((request, change), return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                return None
            return decode_reply(request.result())
        except BusUnavailable:
            return None
        finally:
            request.cancel()

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
        """Pass on credit without asking for an answer; losing it is made good by the next Sync."""
        epoch = self._catalogue.epoch(bundle)
        if epoch is None:
            return
        try:
            await self._bus.publish(owner_subject(bundle, epoch), encode(credit))
        except BusUnavailable:
            return
