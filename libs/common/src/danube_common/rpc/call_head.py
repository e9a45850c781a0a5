"""What the headers of a call say. A client sends the same ones with each call, so they are read once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from danube_common.rpc.grpc_framing import metadata_of

HEADS_MAX: Final = 1024
"""Different sets of headers that are remembered, of 16 KiB at most each (`server.HEADER_BYTES_MAX`)."""


class CallHead:
    """The headers of calls.

    Attributes:
        headers: by lower-case name.
        is_usual: whether they are what all usual clients of gRPC send: nothing of them is to be refused.
        is_encoded: whether messages may be compressed.
        has_deadline: whether the client sets one.
    """

    __slots__ = ("_metadata", "_pairs", "has_deadline", "headers", "is_encoded", "is_usual")

    def __init__(self, pairs: tuple[tuple[bytes, bytes], ...]) -> None:
        self._pairs = pairs
        self._metadata: Mapping[str, str | bytes] | None = None
        self.headers = headers = dict(pairs)
        self.is_encoded = b"grpc-encoding" in headers
        self.has_deadline = b"grpc-timeout" in headers
        self.is_usual = (
            headers.get(b"content-type") == b"application/grpc" and headers.get(b"te") == b"trailers"
        )

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """What the client sends for the handler; see `metadata_of`. Raises RpcError."""
        if self._metadata is None:
            self._metadata = metadata_of(self._pairs)
        return self._metadata


head_of = lru_cache(maxsize=HEADS_MAX)(CallHead)
"""Return the `CallHead` of a call's headers."""
