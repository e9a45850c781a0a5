"""Retention floors: positions up to which every subscription has acknowledged, by the bundle's owner."""

from __future__ import annotations

import structlog

from danube_common.cluster.owner_client import OwnerClient
from danube_common.errors import DanubeError
from danube_common.model.bundle import Bundle
from danube_common.wire.owner.topics import Floors, RetentionFloors

ANSWER_TIMEOUT_S = 5.0
"""The owner answers when its journal holds the floors: usually within 0.1 s."""

_log = structlog.get_logger(__name__)


async def ask_floors(owners: OwnerClient, bundle: Bundle) -> Floors | None:
    """Return the positions that every subscription has acknowledged; None if no owner answers."""
    try:
        return await owners.ask(bundle, RetentionFloors(), timeout_s=ANSWER_TIMEOUT_S)
    except DanubeError as error:
        _log.info("no_floors", bundle=str(bundle), reason=str(error))
        return None
