"""Which service writes which keys of the metadata store, and which may read them.

The permissions of the services at NATS and the roles in etcd are made of this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from danube_common.cluster import keys
from danube_common.metadata.grant import Grant

KINDS: Final = ("gateway", "topic-owner", "storage", "admin")

WRITERS: Final[Mapping[str, frozenset[str]]] = {
    "/cluster/": frozenset({"admin"}),
    keys.REGISTER: frozenset(KINDS),
    keys.OWNERS: frozenset({"topic-owner"}),
    keys.LOAD: frozenset({"topic-owner"}),
    keys.NAMESPACES: frozenset({"admin"}),
    keys.TOPICS: frozenset({"gateway", "topic-owner", "admin"}),
    "/storage/": frozenset({"storage", "admin"}),
    "/schemas/": frozenset({"gateway", "admin"}),
    keys.SECURITY: frozenset({"admin"}),
}
"""By the beginning of the key; the longest one that fits a key counts. Owners create dead-letter topics, and
admin instances write everything that a backup holds."""
GUARDS: Final = frozenset({"gateway", "admin"})
"""Have a port that asks for credentials: nobody else reads `keys.SECURITY`."""
CONNECT: Final = "/connect"
"""Read by every service when it connects to etcd."""


def written(kind: str) -> list[str]:
    """Return the beginnings of the keys that a service writes."""
    return [prefix for prefix, kinds in WRITERS.items() if kind in kinds]


def withheld(kind: str) -> list[str]:
    """Return those below `written` that it does not write."""
    own = written(kind)
    return [
        prefix
        for prefix, kinds in WRITERS.items()
        if kind not in kinds and any(prefix.startswith(beginning) for beginning in own)
    ]


def etcd_grants(kind: str) -> list[Grant]:
    """Return what the role of a service in etcd may read and write."""
    whole = [prefix for prefix in WRITERS if not _is_part(prefix)]
    read = [Grant.of(prefix) for prefix in whole if prefix != keys.SECURITY or kind in GUARDS]
    gaps = [Grant.of(prefix) for prefix in withheld(kind)]
    made = [Grant(CONNECT.encode(), b"", writes=False), *read]
    for prefix in written(kind):
        made += Grant.of(prefix, writes=True).without(gaps)
    return made


def _is_part(prefix: str) -> bool:
    return any(prefix != other and prefix.startswith(other) for other in WRITERS)
