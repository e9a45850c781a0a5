"""Answers calls to methods that the client port does not have, such as those of the admin port."""

from __future__ import annotations

from typing import Final

from danube_common.rpc.port import RpcError, StatusCode, unknown_method
from danube_gateway.dialects.errors import rpc_error
from danube_proto import danube_platform_pb2 as platform
from danube_proto.danube_api_pb2 import ErrorType

AUTHENTICATE: Final = "/danube.AuthService/Authenticate"
"""What clients of early 2025 and Java 0.2.0 call."""
ADMIN_PACKAGE: Final = "/danube_admin."
PLATFORM_METHODS: Final = frozenset(
    f"/{service.full_name}/{method.name}"
    for service in platform.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)


def unknown(name: str, admin_url: str) -> RpcError:
    """Return the status of the call. ``admin_url`` is where an admin instance listens, empty if unknown."""
    text = str(unknown_method(name))
    if name == AUTHENTICATE:
        text = (
            "keys are not exchanged for tokens: send the API key or token with each call, as a bearer token"
        )
    if name.startswith(ADMIN_PACKAGE) or name in PLATFORM_METHODS:
        place = admin_url or "an admin instance, on port 50051 by default"
        text = f"this is the client port: danube-admin connects to {place}"
    return rpc_error(StatusCode.UNIMPLEMENTED, ErrorType.UNKNOWN_ERROR, text)
