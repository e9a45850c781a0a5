"""What every tool of gRPC may ask of a port: health and reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from danube_harness.platforms.standalone import Platform

STANDARD = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
SERVED = {
    "gateway": STANDARD
    | {"danube.ProducerService", "danube.ConsumerService", "danube.Discovery", "danube.HealthCheck"},
    "admin": STANDARD
    | {"danube_admin.BrokerAdmin", "danube_admin.NamespaceAdmin", "danube_admin.TopicAdmin"},
}


@pytest.fixture(params=sorted(SERVED))
def port(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def channel(platform: Platform, port: str) -> AsyncIterator[grpc.aio.Channel]:
    addr = platform.gateway_addr if port == "gateway" else platform.admin_addr
    async with grpc.aio.insecure_channel(addr) as opened:
        yield opened


async def told(channel: grpc.aio.Channel, **request: str) -> Any:
    """The answer of reflection to one request."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(**request)])
    [answer] = [answer async for answer in stub.ServerReflectionInfo(requests)]
    return answer


async def test_a_probe_is_told_that_the_port_and_each_of_its_services_serve(
    channel: grpc.aio.Channel, port: str
) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", *SERVED[port]):
        status = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert status.status == health_pb2.HealthCheckResponse.SERVING, service
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_reflection_lists_the_services_and_has_the_definition_of_each(
    channel: grpc.aio.Channel, port: str
) -> None:
    listed = {one.name for one in (await told(channel, list_services="")).list_services_response.service}
    assert listed >= SERVED[port]
    for service in listed:
        answer = await told(channel, file_containing_symbol=service)
        file = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
        assert service in {f"{file.package}.{one.name}" for one in file.service}
