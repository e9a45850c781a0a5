"""The gateway process: configuration, and the wiring of its parts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from pydantic import Field

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.topics import Topics
from danube_common.model.policies import MESSAGE_BYTES_CEILING
from danube_common.model.strategy import DEFAULT_STORAGE, StorageBackend
from danube_common.rpc.admission import open_guard
from danube_common.rpc.health import CHECK_METHOD, HealthService
from danube_common.rpc.port import Methods
from danube_common.rpc.reflection import ReflectionService
from danube_common.rpc.server import RpcServer
from danube_common.rpc.traced_calls import trace_calls
from danube_common.runtime.address import reachable_url
from danube_common.runtime.auth_config import GuardedPortConfig
from danube_common.runtime.config import Address, Url
from danube_common.runtime.ports import open_ports
from danube_common.runtime.registration import presence
from danube_common.runtime.service import Runtime
from danube_common.schemas.calls import RegistryCalls
from danube_common.tracing.tracer import Tracer
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.sessions import Sessions
from danube_gateway.dialects import schema_registry
from danube_gateway.dialects.current.generation import CurrentGeneration
from danube_gateway.dialects.errors import to_rpc_error
from danube_gateway.dialects.platform import SubscriptionService, TopicService
from danube_gateway.dialects.stream.consume import ConsumeService
from danube_gateway.dialects.stream.service import Streaming
from danube_gateway.dialects.unknown_methods import unknown
from danube_gateway.dialects.v0_2.consumer_service import ConsumerService
from danube_gateway.dialects.v0_2.discovery import Discovery
from danube_gateway.dialects.v0_2.health_check import HealthCheck
from danube_gateway.dialects.v0_2.producer_service import ProducerService
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_gateway.isolation import Isolation
from danube_gateway.publish.producers import Producers
from danube_gateway.publish.publishing import Publishing
from danube_gateway.publish.schema_checks import SchemaChecks
from danube_gateway.publish.schema_evolution import SchemaEvolution
from danube_gateway.publish.schema_worker import SchemaWorker
from danube_gateway.publish.subject_checks import SubjectChecks
from danube_gateway.publish.topic_limits import ENVELOPE_BYTES_MAX
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_gateway.publish.traces import PublishTraces, traced_send
from danube_proto import (
    danube_api_pb2,
    danube_current_pb2,
    danube_platform_pb2,
    danube_schema_pb2,
    danube_stream_pb2,
)

SERVICE: Final = "gateway"
CONTRACTS: Final = (
    danube_api_pb2.DESCRIPTOR,
    danube_platform_pb2.DESCRIPTOR,
    danube_schema_pb2.DESCRIPTOR,
    danube_current_pb2.DESCRIPTOR,
    danube_stream_pb2.DESCRIPTOR,
)
"""What reflection tells of; of a name that both generations have, v0.2's definition."""
STREAM_GRACE_S: Final = 2.0
"""Calls in progress may take this long when the gateway stops."""
SEND: Final = "/danube.ProducerService/SendMessage"
OF_MESSAGES: Final = (SEND, "/danube.ConsumerService/Ack")
"""Called for each message: they have spans of their own."""
SERVED_TO_THE_END: Final = (*OF_MESSAGES, CHECK_METHOD)
"""Calls that a stopping gateway still answers; `Publishing.drain` decides which messages it accepts."""
QUIET_S: Final = 0.1
DRAIN_S_MAX: Final = 1.0
ACKS_DRAIN_S: Final = 2.0
"""A stopping gateway waits this long for the confirmation of acknowledgements that it has answered."""
"""Connections are closed when no call came for QUIET_S, at the latest after DRAIN_S_MAX."""


class GatewayConfig(GuardedPortConfig):
    """The gateway's configuration."""

    grpc_addr: Address = Field(default="127.0.0.1:6650", description="listen address for clients")
    grpc_reuse_port: bool = Field(
        default=False,
        description="let other gateways on this machine listen on the same address; the system spreads "
        "connections over them",
    )
    advertised_url: Url = Field(
        default="",
        description="URL that clients are told to connect to; the listen address if empty",
    )
    default_storage: Literal["memory", "disk", "s3"] = Field(
        default=DEFAULT_STORAGE.value, description="where new reliable topics live whose creator does not say"
    )
    concurrent_calls_max: int = Field(
        default=10_000, ge=1, description="unary calls in progress; more are refused"
    )


@asynccontextmanager
async def start(runtime: Runtime, config: GatewayConfig) -> AsyncIterator[None]:
    """Serve clients until stopped."""
    async with (
        open_ports(runtime, config, metadata_vital=False) as ports,
        open_guard(runtime, config, ports.metadata) as guard,
    ):
        catalogue = await Catalogue.open(ports.metadata)
        owners = OwnerClient(ports.bus, catalogue)
        metrics, tracer = GatewayMetrics(runtime.metrics), runtime.tracer
        topics = Topics(ports.metadata, ports.log, now_ms=_now_ms)
        registry = RegistryCalls(ports.metadata, topics, now_ms=_now_ms)
        producers = Producers(owners, catalogue)
        acks = Acknowledgements(owners, runtime.spawn, metrics, tracer)
        sessions = Sessions(runtime.instance_id, ports.bus, owners, acks, catalogue, runtime.spawn, metrics)
        checks = SchemaChecks(metrics, SchemaWorker(), SchemaWorker())
        subjects = await SubjectChecks.open(ports.metadata, registry.registry, checks, metrics)
        resolver = TopicResolver(
            topics, catalogue, SchemaEvolution(ports.metadata, registry.registry, subjects)
        )
        publishing = Publishing(
            producers,
            catalogue,
            ports.log,
            ports.bus,
            runtime.spawn,
            metrics,
            checks,
            subjects,
            PublishTraces(tracer),
        )

        methods = Methods(
            on_error=to_rpc_error,
            unknown=lambda name: unknown(
                name, next((one.address for one in catalogue.instances("admin")), "")
            ),
        )
        server = RpcServer(
            methods,
            message_bytes_max=MESSAGE_BYTES_CEILING + 2 * ENVELOPE_BYTES_MAX,
            message_bytes_hint=f"a payload may have max_message_size bytes, a policy of at most "
            f"{MESSAGE_BYTES_CEILING}",
            concurrent_calls_max=config.concurrent_calls_max,
            calls_per_identity_max=config.auth.calls_per_identity_max,
            connections_per_peer_max=config.connections_per_peer_max,
            tls=config.tls,
            guard=guard,
            metrics=runtime.metrics,
        )
        storage = StorageBackend(config.default_storage)
        ProducerService(resolver, producers, publishing, default_storage=storage).register(methods)
        (consumers := ConsumerService(resolver, owners, sessions, acks)).register(methods)
        CurrentGeneration(resolver, registry.registry, ports.metadata, storage).register(
            methods, producers, publishing, owners, sessions, acks, consumers.known_ack
        )
        for service in (
            Streaming(
                resolver,
                publishing,
                owners,
                registry.registry,
                ports.metadata,
                storage,
                ConsumeService(resolver, catalogue, owners, sessions, acks),
            ),
            SubscriptionService(resolver, owners),
            TopicService(resolver, owners),
            HealthCheck(producers, sessions),
            ReflectionService(CONTRACTS),
        ):
            service.register(methods)
        schema_registry.register(registry, methods)
        discovery = Discovery(resolver, config.advertised_url)
        discovery.register(methods)
        health = HealthService(runtime.health.is_ready)
        health.register(methods)
        _trace(methods, tracer)

        await sessions.start()
        runtime.add_check("layout", lambda: None if catalogue.layout else "no bundle layout yet")
        bound = await server.start(config.grpc_addr, reuse_port=config.grpc_reuse_port)
        discovery.url = config.advertised_url or reachable_url(bound, tls=config.tls.enabled)
        runtime.announce(grpc_addr=bound)
        for name, part in (("health", health), ("producers", producers), ("sessions", sessions)):
            runtime.spawn(part.run(), name)
        if config.etcd_endpoints:  # metadata in NATS gives no second connection to compare with
            isolation = Isolation(lambda: ports.bus.connected or ports.metadata.connected, sessions.end_all)
            runtime.spawn(isolation.run(), "isolation")
        try:
            async with presence(runtime, ports.metadata, address=discovery.url, vital=False):
                yield
        finally:
            health.refresh()
            publishing.drain()
            await sessions.stop()
            await server.drain(SERVED_TO_THE_END, quiet_s=QUIET_S, timeout_s=DRAIN_S_MAX)
            await server.stop(STREAM_GRACE_S)
            await acks.drain(ACKS_DRAIN_S)
            await checks.close()
            await subjects.close()
            await catalogue.close()


def _trace(methods: Methods, tracer: Tracer | None) -> None:
    """Give calls and messages their spans; without a tracer the methods stay as they are."""
    if tracer is not None:
        trace_calls(methods, tracer, but={*OF_MESSAGES, *methods.stream})
        methods.unary[SEND] = traced_send(methods.unary[SEND], tracer)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
