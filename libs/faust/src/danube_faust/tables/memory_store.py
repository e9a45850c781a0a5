"""Faust's memory store, which also knows the partition of the keys that an agent sets.

Faust's own knows it only of keys that came from a changelog. It keeps the others when their partition goes
to another worker, and shows them again, as old as they are, when the partition comes back.
"""

from __future__ import annotations

from typing import Any

from faust.stores import memory
from faust.streams import current_event


class Store(memory.Store[Any, Any]):
    """The store of ``memory://``."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.data[key] = value
        event = current_event()
        table: Any = self.table  # its interface lacks these
        if event is not None and not table.use_partitioner and not table.is_global:
            self._key_partition[key] = event.message.partition

    def __delitem__(self, key: Any) -> None:
        del self.data[key]
        self._key_partition.pop(key, None)

    def forget(self, partition: int) -> None:
        """Remove the keys of a partition."""
        for key in [key for key, number in self._key_partition.items() if number == partition]:
            del self._key_partition[key]
            self.data.pop(key, None)
