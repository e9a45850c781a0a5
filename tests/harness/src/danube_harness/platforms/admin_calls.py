"""Calls to the admin service, as an operator's tool makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

TIMEOUT_S = 20.0

A = TypeVar("A", bound=Message)


async def ask_admin(addresses: Sequence[str], method: str, request: Message, answer: type[A]) -> A:
    """Call the admin instances in turn until one is available; returns its answer. Raises AioRpcError."""
    for number, address in enumerate(addresses, 1):
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            try:
                return cast("A", await call(request, timeout=TIMEOUT_S))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or number == len(addresses):
                    raise
    raise ValueError("no address is given")
