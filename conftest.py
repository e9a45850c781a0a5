from __future__ import annotations

from danube_testing.fixtures import nats_server

__all__ = ["nats_server"]
