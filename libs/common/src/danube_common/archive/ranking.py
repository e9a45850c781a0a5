"""Which of several instances goes first for a key: the same answer in every process, spread over keys."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def ranked(key: str, instance_ids: Iterable[str]) -> list[str]:
    """Rendezvous hashing: when an instance goes, only what it was first for moves."""

    def weight(instance_id: str) -> bytes:
        return blake2b(f"{key}\0{instance_id}".encode(), digest_size=8).digest()

    return sorted(instance_ids, key=weight)
