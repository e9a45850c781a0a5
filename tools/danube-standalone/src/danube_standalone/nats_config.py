"""The configuration text of the NATS server that standalone runs, and of each server of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# One message must hold the largest frame; the frame bounds are far below, the rest is room for headers.
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
# What the server may hold for one connection that reads slowly before it drops that connection. Several of
# the largest messages must fit, or a batched read of large frames would be taken for a dead client.
MAX_PENDING_BYTES = 4 * MAX_PAYLOAD_BYTES
# A paused or cut-off client is dropped after three intervals, well within the 10 s in which what it owned
# is served elsewhere: until then its subscriptions take their share of the requests.
PING_INTERVAL_S = 2
PINGS_OUTSTANDING_MAX = 2
DEFAULT_FILE_STORE_BYTES_MAX = 64 * 1024**3
DEFAULT_MEMORY_STORE_BYTES_MAX = 1024**3

RANDOM_PORT = -1


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """What makes a server one of a cluster. Its server name must be its own within the cluster.

    Attributes:
        name: the cluster's.
        port: where the other servers reach this one.
        routes: ``host:port`` of the servers, this one's may be among them.
        advertise: tell clients the addresses of the other servers; False where clients reach the servers
            by other addresses than these know themselves by, as behind proxies.
    """

    name: str
    port: int
    routes: Sequence[str]
    advertise: bool = True


def render_nats_config(
    *,
    store_dir: Path,
    host: str = "127.0.0.1",
    port: int = 4222,
    server_name: str = "danube-standalone",
    file_store_bytes_max: int = DEFAULT_FILE_STORE_BYTES_MAX,
    memory_store_bytes_max: int = DEFAULT_MEMORY_STORE_BYTES_MAX,
    cluster: ClusterMember | None = None,
) -> str:
    """The server's configuration file as text.

    Every acknowledged write is synced to the disk first: there is no other mode, because what the log
    acknowledges the platform promises to keep.

    Args:
        store_dir: where JetStream keeps its files.
        host: the address to listen on.
        port: the port to listen on; `RANDOM_PORT` lets the server choose a free one.
        server_name: the name the server shows in its answers.
        file_store_bytes_max: bound on the bytes of all file streams.
        memory_store_bytes_max: bound on the bytes of all memory streams.
        cluster: the cluster this server belongs to; None for a server by itself.
    """
    alone = f"""\
server_name: {_quoted(server_name)}
host: {_quoted(host)}
port: {port}
max_payload: {MAX_PAYLOAD_BYTES}
max_pending: {MAX_PENDING_BYTES}
ping_interval: "{PING_INTERVAL_S}s"
ping_max: {PINGS_OUTSTANDING_MAX}
jetstream {{
  store_dir: {_quoted(str(store_dir))}
  sync_interval: always
  max_file_store: {file_store_bytes_max}
  max_memory_store: {memory_store_bytes_max}
}}
"""
    return alone if cluster is None else alone + _cluster_block(cluster, host)


def _cluster_block(cluster: ClusterMember, host: str) -> str:
    routes = "\n".join(f"    {_quoted(f'nats://{route}')}" for route in cluster.routes)
    return f"""\
cluster {{
  name: {_quoted(cluster.name)}
  host: {_quoted(host)}
  port: {cluster.port}
  no_advertise: {"false" if cluster.advertise else "true"}
  routes: [
{routes}
  ]
}}
"""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
