from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from danube_common.rpc import health
from danube_common.rpc.health import HealthService
from danube_common.rpc.port import Methods
from danube_harness.rpc.calls import NOTICE_S, Idle, Serve, connect, status_of

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING


class World:
    def __init__(self) -> None:
        self.ready = True
        self.service = HealthService(lambda: self.ready)
        self.methods = Methods(stream={"/a.B/S": Idle()})
        self.service.register(self.methods)

    def stub(self, channel: Any) -> Any:
        return health_pb2_grpc.HealthStub(channel)


async def test_check_follows_readiness_for_the_server_and_each_service(serve: Serve) -> None:
    world = World()
    _, addr = await serve(world.methods)
    async with connect(addr) as channel:
        stub = world.stub(channel)
        for status in (SERVING, NOT_SERVING, SERVING):
            world.ready = status == SERVING
            for name in ("", "a.B", "grpc.health.v1.Health"):
                assert (await stub.Check(pb.HealthCheckRequest(service=name))).status == status


async def test_check_of_an_unknown_service_is_not_found(serve: Serve) -> None:
    world = World()
    _, addr = await serve(world.methods)
    async with connect(addr) as channel:
        code, text, _ = await status_of(world.stub(channel).Check(pb.HealthCheckRequest(service="x" * 1000)))
    assert code is grpc.StatusCode.NOT_FOUND
    assert len(text) < 200


async def test_list_names_every_service(serve: Serve) -> None:
    world = World()
    _, addr = await serve(world.methods)
    async with connect(addr) as channel:
        listed = await world.stub(channel).List(pb.HealthListRequest())
    assert {name: one.status for name, one in listed.statuses.items()} == dict.fromkeys(
        ("", "a.B", "grpc.health.v1.Health"), SERVING
    )


async def test_a_watcher_is_told_the_status_and_each_change(serve: Serve) -> None:
    world = World()
    _, addr = await serve(world.methods)
    running = asyncio.create_task(world.service.run())
    async with connect(addr) as channel:
        watch = world.stub(channel).Watch(pb.HealthCheckRequest(service="a.B"))
        assert (await watch.read()).status == SERVING
        world.ready = False
        assert (await asyncio.wait_for(watch.read(), NOTICE_S)).status == NOT_SERVING
        world.ready = True
        assert (await asyncio.wait_for(watch.read(), NOTICE_S)).status == SERVING
        watch.cancel()
    running.cancel()


async def test_a_refresh_tells_watchers_at_once(serve: Serve) -> None:
    world = World()
    _, addr = await serve(world.methods)
    async with connect(addr) as channel:
        watch = world.stub(channel).Watch(pb.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        world.ready = False
        world.service.refresh()  # nothing polls here
        assert (await asyncio.wait_for(watch.read(), NOTICE_S)).status == NOT_SERVING
        watch.cancel()


async def test_a_watch_of_an_unknown_service_says_so_and_stays(serve: Serve) -> None:
    world = World()
    _, addr = await serve(world.methods)
    async with connect(addr) as channel:
        watch = world.stub(channel).Watch(pb.HealthCheckRequest(service="no.Such"))
        assert (await watch.read()).status == pb.HealthCheckResponse.SERVICE_UNKNOWN
        assert not watch.done()
        watch.cancel()


async def test_a_server_that_drains_goes_on_answering_checks(serve: Serve) -> None:
    world = World()
    server, addr = await serve(world.methods)
    await server.drain([health.CHECK_METHOD], quiet_s=0, timeout_s=0)
    world.ready = False
    async with connect(addr) as channel:
        assert (await world.stub(channel).Check(pb.HealthCheckRequest())).status == NOT_SERVING
