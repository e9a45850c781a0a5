from __future__ import annotations

from danube_testing.fixtures import etcd_server, nats_server

__all__ = ["etcd_server", "nats_server"]
