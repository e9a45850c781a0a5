"""The admin process: configuration, and the wiring of its parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from danube_admin_service.api.call_metrics import counted
from danube_admin_service.api.errors import status_of
from danube_admin_service.api.methods import admin_methods, wall_clock_ms
from danube_admin_service.backup.methods import BackupMethods, RestoreMethods
from danube_admin_service.cluster.assigner import Assigner
from danube_admin_service.cluster.leader import Election
from danube_admin_service.cluster.load_manager import LoadManager, RebalanceRules
from danube_admin_service.cluster.ranking import LoadStrategy
from danube_admin_service.cluster.rebalance import Aggressiveness
from danube_admin_service.cluster.view import Cluster
from danube_admin_service.console.access.gateways import Gateways
from danube_admin_service.console.access.visitor import Door
from danube_admin_service.console.live.activity import Activity
from danube_admin_service.console.live.collector import Collector
from danube_admin_service.console.live.prometheus import Prometheus
from danube_admin_service.console.served import Served
from danube_admin_service.console.site import Site
from danube_admin_service.console.sources import Sources
from danube_admin_service.doctor.gauges import ClusterGauges
from danube_admin_service.doctor.look import Look
from danube_admin_service.doctor.methods import DoctorMethods
from danube_common.cluster.membership import INSTANCE_TTL_S
from danube_common.cluster.namespaces import DEFAULT_NAMESPACES, Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.records import Layout
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidName
from danube_common.model.names import check_namespace
from danube_common.model.policies import MESSAGE_BYTES_CEILING, POLICY_MAX, Policies
from danube_common.model.strategy import DEFAULT_STORAGE, StorageBackend
from danube_common.rpc.admission import open_guard
from danube_common.rpc.guard import Guard
from danube_common.rpc.health import HealthService
from danube_common.rpc.port import Methods
from danube_common.rpc.reflection import ReflectionService
from danube_common.rpc.server import RpcServer
from danube_common.rpc.traced_calls import trace_calls
from danube_common.runtime.address import reachable_url
from danube_common.runtime.auth_config import GuardedPortConfig, is_loopback
from danube_common.runtime.config import Address
from danube_common.runtime.ports import open_ports
from danube_common.runtime.registration import Registration, presence
from danube_common.runtime.section import OptionalInterval, Section
from danube_common.runtime.service import Runtime
from danube_common.security.audit import STDOUT
from danube_proto import (
    danube_admin_pb2,
    danube_operations_pb2,
    danube_platform_pb2,
    danube_schema_pb2,
)

KIND: Final = "admin"
CONTRACTS: Final = (
    danube_admin_pb2.DESCRIPTOR,
    danube_operations_pb2.DESCRIPTOR,
    danube_platform_pb2.DESCRIPTOR,
    danube_schema_pb2.DESCRIPTOR,
)
"""What reflection tells of."""
REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024
"""The largest request; the bound on a schema is far lower."""
CALLS_MAX: Final = 256
GRACE_S: Final = 2.0
OWNER_TIMEOUT_S: Final = 5.0
"""How long a call waits for the answer of a topic's owner."""
SETTLE_TIMEOUT_S: Final = 15.0
"""Longer than the lease of a dead leader and two elections."""
RETURN_GRACE_S: Final = INSTANCE_TTL_S
"""How long a leader that returned to the metadata store waits for the owners to return as well."""
BUNDLES_MAX: Final = 1024


def _check_namespaces(names: list[str]) -> list[str]:
    for name in names:
        try:
            check_namespace(name)
        except InvalidName as error:
            raise ValueError(str(error)) from None
    return names


def _check_url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise ValueError("it is no URL, as http://prometheus:9090")
    return text


def _limit(description: str) -> Any:
    return Field(default=0, ge=0, le=POLICY_MAX, description=f"{description}; 0 is unlimited")


class PoliciesConfig(Section):
    """The policies of topics for which neither the namespace nor the topic sets any."""

    max_producers_per_topic: int = _limit("producers of one topic")
    max_subscriptions_per_topic: int = _limit("subscriptions of one topic")
    max_consumers_per_topic: int = _limit("consumers of one topic, over all its subscriptions")
    max_consumers_per_subscription: int = _limit("consumers of one subscription")
    max_publish_rate: int = _limit("messages a second published to one topic")
    max_dispatch_rate: int = _limit("messages a second dispatched from one topic")
    max_subscription_dispatch_rate: int = _limit("messages a second dispatched to one subscription")
    max_message_size: int = Field(
        default=Policies().max_message_size,
        ge=0,
        le=MESSAGE_BYTES_CEILING,
        description=f"bytes of one payload; 0 is the bound of the platform, {MESSAGE_BYTES_CEILING}",
    )
    max_retained_mb: int = _limit("MiB of one topic in segments, beyond which the oldest are deleted")


class RebalanceConfig(Section):
    """When and how far the leader rebalances by itself. Rebalancing on request always works."""

    interval_s: OptionalInterval = Field(
        default=0.0, description="seconds between two checks of the loads; 0: only on request"
    )
    aggressiveness: Aggressiveness = Field(
        default=Aggressiveness.BALANCED,
        description="tolerated variation of loads: conservative 40, balanced 30, aggressive 20 percent",
    )
    moves_max: int = Field(default=1, ge=1, le=1000, description="bundles that move at a time")
    rest_s: float = Field(default=60.0, ge=0, description="seconds that a bundle stays after a move")


class RestoreConfig(Section):
    """For an admin instance that does nothing but restore a backup into an empty cluster."""

    enabled: bool = Field(
        default=False, description="only restore a backup (danube-admin backup restore), and do not lead"
    )
    segments_dir: Path | None = Field(
        default=None, description="data_dir of the storage instance that gets the backup's segments on disk"
    )
    holder: str = Field(default="", description="instance_id of that storage instance")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.segments_dir is None) != (not self.holder):
            raise ValueError("restore_segments_dir and restore_holder need each other")
        return self


class AdminConfig(GuardedPortConfig):
    """The admin service's configuration."""

    grpc_addr: Address = Field(default="127.0.0.1:50051", description="listen address of the admin port")
    bundles_file: int = Field(
        default=4, ge=1, le=BUNDLES_MAX, description="bundles kept on disk; the number never shrinks"
    )
    bundles_memory: int = Field(
        default=4,
        ge=1,
        le=BUNDLES_MAX,
        description="bundles kept in memory; the number never shrinks",
    )
    bootstrap_namespaces: Annotated[list[str], AfterValidator(_check_namespaces)] = Field(
        default=[], description="namespaces to create at start, beside default and system"
    )
    default_storage: Literal["memory", "disk", "s3"] = Field(
        default=DEFAULT_STORAGE.value,
        description="where new reliable topics live whose strategy does not say; the gateways have their own",
    )
    policies: PoliciesConfig = PoliciesConfig()
    load_strategy: LoadStrategy = Field(
        default=LoadStrategy.FAIR,
        description="how owners' loads are compared: fair (by topics), balanced or weighted_load",
    )
    rebalance: RebalanceConfig = RebalanceConfig()
    restore: RestoreConfig = RestoreConfig()
    console: bool = Field(default=True, description="serve the web console on http_addr")
    console_ca_file: Path | None = Field(
        default=None,
        description="PEM of the authorities that the console checks gateways' certificates with; default the "
        "system's",
    )
    console_origins: list[str] = Field(
        default=[],
        description="origins of pages elsewhere that may ask /ui/v1, as http://ui.example:3000",
    )
    prometheus_url: Annotated[str, AfterValidator(_check_url)] = Field(
        default="", description="a Prometheus server that the console's charts come from"
    )


@asynccontextmanager
async def start(runtime: Runtime, config: AdminConfig, site: Site | None = None) -> AsyncIterator[None]:
    """Serve until stopped; ready once there is a leader and the cluster has its layout.

    ``site`` is where the console is served, None for nowhere.
    """
    if config.restore.enabled:
        if site is not None:
            site.refuse("this admin instance only restores a backup")
        async with _serve_restore(runtime, config):
            yield
        return
    async with AsyncExitStack() as opened:
        ports = await opened.enter_async_context(open_ports(runtime, config))
        store = ports.metadata
        cluster = await Cluster.open(store)
        opened.push_async_callback(cluster.close)
        runtime.add_check("leader", lambda: None if cluster.leader else "no admin instance leads")

        namespaces = Namespaces(store)
        for name in (*DEFAULT_NAMESPACES, *config.bootstrap_namespaces):
            await namespaces.ensure(name)

        election = Election(store, cluster, runtime.instance_id, on_leading=cluster.changed.set)
        runtime.metrics.plain_gauge("admin_leading", "1 while this instance leads.").set_function(
            lambda: float(election.leading)
        )
        rules = RebalanceRules(**config.rebalance.model_dump())
        manager = LoadManager(store, cluster, config.load_strategy, rules, leading=lambda: election.leading)
        owners = OwnerClient(ports.bus, cluster, timeout_s=OWNER_TIMEOUT_S)
        admin = admin_methods(
            store,
            ports.log,
            owners,
            cluster,
            manager,
            instance_id=runtime.instance_id,
            default_storage=StorageBackend(config.default_storage),
        )
        BackupMethods(store, ports.bus, ports.connection).register(admin)
        look = Look(store, cluster, owners, ports.connection)
        DoctorMethods(store, look).register(admin)
        methods = counted(admin, runtime.metrics)
        if runtime.tracer is not None:
            trace_calls(methods, runtime.tracer)
        health = HealthService(runtime.health.is_ready)
        health.register(methods)
        ReflectionService(CONTRACTS).register(methods)
        guard = await opened.enter_async_context(open_guard(runtime, config, store))
        if site is not None:
            topics = Topics(store, ports.log, now_ms=wall_clock_ms)
            sources = Sources(
                Activity(),
                cluster,
                namespaces,
                topics,
                owners,
                Gateways(lambda: cluster.instances, config.console_ca_file),
                Prometheus(config.prometheus_url) if config.prometheus_url else None,
                _audit_file(config),
            )
            opened.callback(site.close)
            _open_console(runtime, config, site, Door(methods, guard), sources)
        grpc_addr = await _serve(opened, runtime, config, methods, guard)
        registration = Registration()
        await opened.enter_async_context(
            presence(
                runtime,
                store,
                address=reachable_url(grpc_addr, tls=config.tls.enabled),
                registration=registration,
            )
        )
        assigner = Assigner(
            store,
            cluster,
            election,
            layout=Layout(file_bundles=config.bundles_file, memory_bundles=config.bundles_memory),
            policies=Policies(**config.policies.model_dump()),
            returns_awaited=lambda: registration.held_s < RETURN_GRACE_S,
            strategy=config.load_strategy,
        )
        gauges = ClusterGauges(runtime.metrics, look, lambda: election.leading)
        runtime.spawn(health.run(), "health")
        tasks = [
            runtime.spawn(gauges.run(), "gauges"),
            runtime.spawn(assigner.run(), "assigner"),
            runtime.spawn(election.run(), "election"),
            runtime.spawn(manager.run(), "rebalancing"),
        ]
        try:
            await cluster.until_settled(SETTLE_TIMEOUT_S)
            yield
        finally:
            health.refresh()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _serve_restore(runtime: Runtime, config: AdminConfig) -> AsyncIterator[None]:
    """Serve one restore. Nothing is written before it, so that the cluster stays empty."""
    async with AsyncExitStack() as opened:
        ports = await opened.enter_async_context(open_ports(runtime, config))
        methods = Methods(on_error=status_of)
        RestoreMethods(
            ports.metadata,
            ports.connection,
            segments_dir=config.restore.segments_dir,
            holder=config.restore.holder,
        ).register(methods)
        health = HealthService(runtime.health.is_ready)
        health.register(methods)
        runtime.spawn(health.run(), "health")
        guard = await opened.enter_async_context(open_guard(runtime, config, ports.metadata))
        await _serve(opened, runtime, config, methods, guard)
        yield


async def _serve(
    opened: AsyncExitStack, runtime: Runtime, config: AdminConfig, methods: Methods, guard: Guard | None
) -> str:
    """Serve the methods on the admin port until ``opened`` ends; return its address."""
    server = RpcServer(
        methods,
        message_bytes_max=REQUEST_BYTES_MAX,
        message_bytes_hint="this is the admin port, and messages go to a gateway",
        concurrent_calls_max=CALLS_MAX,
        calls_per_identity_max=config.auth.calls_per_identity_max,
        connections_per_peer_max=config.connections_per_peer_max,
        tls=config.tls,
        guard=guard,
        metrics=runtime.metrics,
    )
    grpc_addr = await server.start(config.grpc_addr)
    opened.push_async_callback(server.stop, GRACE_S)
    runtime.announce(grpc_addr=grpc_addr)
    return grpc_addr


def _open_console(runtime: Runtime, config: AdminConfig, site: Site, door: Door, sources: Sources) -> None:
    if not config.console:
        site.refuse("the console is off: see the setting console")
        return
    if door.guard is None and not config.insecure and not is_loopback(config.http_addr):
        reason = (
            f"others reach http_addr {config.http_addr}, and nobody is asked for credentials: set "
            "auth.enabled, listen on 127.0.0.1, or say insecure"
        )
        site.refuse(f"the console is not served: {reason}")
        runtime.log.warning("console_not_served", problem=reason)
        return
    if door.guard is not None and not config.http_tls.enabled and not is_loopback(config.http_addr):
        problem = "http_tls.cert_file is not set"
        runtime.log.warning("tokens_in_plaintext", addr=config.http_addr, problem=problem)
    served = Served(door, sources, any_host=config.insecure, origins=config.console_origins)
    site.open(served)
    collector = Collector(lambda: sources.cluster.instances, sources.activity)
    runtime.spawn(collector.run(), "console")


def _audit_file(config: AdminConfig) -> Path | None:
    path = config.auth.audit_file
    return path if path is not None and path != STDOUT else None
