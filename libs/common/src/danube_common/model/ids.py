"""Producer, consumer and topic ids: durable, 1..2^63-1, valid on every gateway.

An id's upper 15 bits name the bundle, so any gateway can route it without a table; the lower 48
bits are drawn from a hash of what the id stands for and are probed on collision by its owner.
"""

from __future__ import annotations

import hashlib
import secrets

from danube_common.model.bundle import Bundle

_HASH_BITS = 48
ID_MAX = (1 << 63) - 1


def make_id(bundle: Bundle, *parts: str, probe: int = 0) -> int:
    """Return the id of what ``parts`` name within ``bundle``; ``probe`` counts collisions."""
    text = "\0".join((*parts, str(probe)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    low = int.from_bytes(digest) & ((1 << _HASH_BITS) - 1)
    return bundle.index << _HASH_BITS | (low or 1)


def bundle_of(identifier: int) -> Bundle | None:
    """Return the bundle that an id belongs to; None for an id that was never given out."""
    if not 0 < identifier <= ID_MAX:
        return None
    return Bundle.from_index(identifier >> _HASH_BITS)


def new_topic_id() -> int:
    """Return a random 63-bit id. A topic that is deleted and created again gets another id."""
    return secrets.randbits(63) or 1
