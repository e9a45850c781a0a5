"""Calls to the admin service, as an operator's tool makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from danube_proto import danube_platform_pb2 as pb

TIMEOUT_S = 20.0
DESCRIBED_S_MAX = 60.0
POLL_INTERVAL_S = 0.1

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
                return await call(request, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or number == len(addresses):
                    raise
    raise ValueError("no address is given")


async def describe_topic(addresses: Sequence[str], topic: str) -> pb.TopicDescription:
    """The description of a topic that is not partitioned."""
    request = pb.DescribeTopicRequest(topic=topic)
    method = "/danube_platform.TopicDetails/DescribeTopic"
    answer = await ask_admin(addresses, method, request, pb.DescribeTopicResponse)
    return answer.topics[0]


async def until_described(
    addresses: Sequence[str], topic: str, fulfils: Callable[[pb.TopicDescription], bool]
) -> pb.TopicDescription:
    """Ask until the topic's owner answers and the description fulfils a condition; returns it.

    Raises:
        TimeoutError: not within DESCRIBED_S_MAX.
    """
    async with asyncio.timeout(DESCRIBED_S_MAX):
        while True:
            described = await describe_topic(addresses, topic)
            if not described.owner_problem and fulfils(described):
                return described
            await asyncio.sleep(POLL_INTERVAL_S)  # what another process does has no event here
