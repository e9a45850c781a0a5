"""Renders the configuration of a NATS server, alone or in a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from danube_standalone.nats_users import render_users

# One message must hold the largest frame; the frame bounds are far below, the rest is room for headers.
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
# The server drops a connection that reads slowly when so many bytes wait for it. Several of the largest
# messages must fit, or the server would drop a client that reads a batch of large frames.
MAX_PENDING_BYTES = 4 * MAX_PAYLOAD_BYTES
# A paused or cut-off client is dropped after three intervals, well within the 10 s in which what it owned
# is served elsewhere: until then its subscriptions take their share of the requests.
PING_INTERVAL_S = 2
PINGS_OUTSTANDING_MAX = 2
HANDSHAKE_S_MAX = 10
DEFAULT_FILE_STORE_BYTES_MAX = 64 * 1024**3
DEFAULT_MEMORY_STORE_BYTES_MAX = 1024**3

RANDOM_PORT = -1


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One server's part in a cluster. Server names must differ within the cluster.

    Attributes:
        name: the name of the cluster.
        port: the port for the other servers.
        routes: ``host:port`` of the servers; this one's may be among them.
        advertise: whether clients are told the addresses of the other servers. False where these addresses
            do not work for clients, for example behind proxies.
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
    passwords: Mapping[str, str] | None = None,
    tls: Path | None = None,
) -> str:
    """Return the text of the server's configuration file.

    The server syncs every write to the disk before it acknowledges the write: the platform promises to keep
    each message that the log has acknowledged.

    Args:
        store_dir: where JetStream keeps its files.
        host: the address to listen on.
        port: the port to listen on; `RANDOM_PORT` lets the server choose a free one.
        server_name: the name the server shows in its answers.
        file_store_bytes_max: bound on the bytes of all file streams.
        memory_store_bytes_max: bound on the bytes of all memory streams.
        cluster: the cluster that this server belongs to; None for a single server.
        passwords: of the users, see `render_users`; None: whoever reaches the server may do everything.
        tls: the folder with ``ca.crt``, ``tls.crt`` and ``tls.key`` for clients, who must show certificates
            of the same authority, and ``peer.crt`` and ``peer.key``, which all servers of a cluster share
            and trust alone; None: the server speaks plaintext.
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
    if tls is not None:
        alone += _tls_block(tls / "ca.crt", tls / "tls.crt", "  verify: true\n")
    if passwords is not None:
        alone += render_users(passwords)
    # Without `verify`: servers ask each other for certificates anyway.
    inner = "" if tls is None else _tls_block(tls / "peer.crt", tls / "peer.crt")
    if cluster is not None:
        inner = _member(cluster, host) + inner
    return f"{alone}cluster {{\n{inner}}}\n" if inner else alone


def _member(cluster: ClusterMember, host: str) -> str:
    routes = "\n".join(f"    {_quoted(f'nats://{route}')}" for route in cluster.routes)
    return f"""\
  name: {_quoted(cluster.name)}
  host: {_quoted(host)}
  port: {cluster.port}
  no_advertise: {"false" if cluster.advertise else "true"}
  routes: [
{routes}
  ]
"""


def _tls_block(authority: Path, certificate: Path, more: str = "") -> str:
    return f"""\
tls {{
  ca_file: {_quoted(str(authority))}
  cert_file: {_quoted(str(certificate))}
  key_file: {_quoted(str(certificate.with_suffix(".key")))}
  timeout: {HANDSHAKE_S_MAX}
{more}}}
"""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
