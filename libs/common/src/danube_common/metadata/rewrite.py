"""Read-modify-write of a stored value, repeated while other writers are faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.port import MetadataStore

ATTEMPTS_MAX: Final = 64
"""Each lost attempt means that another writer was served: with so many in a row something is wrong."""


async def rewrite(
    store: MetadataStore, key: str, change: Callable[[bytes | None], bytes | None]
) -> int | None:
    """Replace a value by what ``change`` makes of it, again if another writer was faster.

    Args:
        store: the store that holds the value.
        key: the key of the value.
        change: returns the value to write for the present one (None if there is none); None writes nothing.

    Returns:
        The new revision; None if nothing was written.

    Raises:
        MetadataUnavailable: no answer, or ATTEMPTS_MAX times another writer was faster.
    """
    for _ in range(ATTEMPTS_MAX):
        entry = await store.get(key)
        wanted = change(entry.value if entry else None)
        if wanted is None:
            return None
        try:
            return await store.put(key, wanted, expected_revision=entry.revision if entry else 0)
        except Conflict:
            continue
    raise MetadataUnavailable(f"{key} was changed by others {ATTEMPTS_MAX} times in a row")
