from __future__ import annotations

from hypothesis import HealthCheck, settings

from danube_harness.fixtures import etcd_server, nats_server, s3_server

__all__ = ["etcd_server", "nats_server", "s3_server"]

# How long an example takes says what else the machine does, nothing of the code: pytest's timeout is enough.
settings.register_profile("danube", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("danube")
