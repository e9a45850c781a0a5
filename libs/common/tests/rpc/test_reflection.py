from __future__ import annotations

import asyncio

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2 as pb

from danube_common.rpc.port import Methods
from danube_common.rpc.reflection import ReflectionService
from danube_harness.rpc.calls import NOTICE_S, Idle, Serve, connect

V1, ALPHA = (f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha"))


def file(name: str, *imports: str) -> FileDescriptorProto:
    """A file with a message, an enum and a service, all of them after its name."""
    proto = FileDescriptorProto(name=f"{name}.proto", package=name, syntax="proto3", dependency=imports)
    message = proto.message_type.add(name="M")
    message.nested_type.add(name="N").field.add(name="f", number=1, type=9, label=1)
    proto.enum_type.add(name="E").value.add(name="ZERO", number=0)
    proto.service.add(name="S").method.add(name="Do", input_type=f".{name}.M", output_type=f".{name}.M")
    return proto


def pool(*files: FileDescriptorProto) -> DescriptorPool:
    made = DescriptorPool()
    for each in files:
        made.Add(each)
    return made


class World:
    def __init__(self) -> None:
        files = pool(file("base"), file("mid", "base.proto"), file("top", "mid.proto", "base.proto"))
        self.methods = Methods(stream={"/top.S/Do": Idle(), "/mid.S/Do": Idle()})
        ReflectionService([files.FindFileByName("top.proto")]).register(self.methods)

    @staticmethod
    async def ask(
        addr: str, version: str, *requests: pb.ServerReflectionRequest
    ) -> list[pb.ServerReflectionResponse]:
        async with connect(addr) as channel:
            info = channel.stream_stream(
                f"/{version}/ServerReflectionInfo",
                request_serializer=pb.ServerReflectionRequest.SerializeToString,
                response_deserializer=pb.ServerReflectionResponse.FromString,
            )
            async with asyncio.timeout(NOTICE_S):
                return [response async for response in info(iter(requests))]


@pytest.mark.parametrize("version", [V1, ALPHA])
async def test_the_services_with_methods_are_listed(serve: Serve, version: str) -> None:
    world = World()
    _, addr = await serve(world.methods)
    request = pb.ServerReflectionRequest(host="h", list_services="*")
    [answer] = await world.ask(addr, version, request)
    assert [one.name for one in answer.list_services_response.service] == [V1, ALPHA, "mid.S", "top.S"]
    assert (answer.valid_host, answer.original_request) == ("h", request)


@pytest.mark.parametrize(
    "symbol",
    ["top.S", "top.S.Do", "top.M", "top.M.N", "top.M.N.f", "top.E", V1, ALPHA, "grpc.health.v1.Health"],
)
async def test_a_symbol_gives_its_file_and_what_it_imports(serve: Serve, symbol: str) -> None:
    world = World()
    _, addr = await serve(world.methods)
    [answer] = await world.ask(addr, V1, pb.ServerReflectionRequest(file_containing_symbol=symbol))
    files = [
        FileDescriptorProto.FromString(data) for data in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert symbol.startswith(files[0].package)
    assert {name for one in files for name in one.dependency} <= {one.name for one in files}
    # A client can build the whole of it.
    pool(*reversed(files)).FindFileByName(files[0].name)


async def test_requests_of_one_stream_are_answered_in_order_and_errors_do_not_end_it(serve: Serve) -> None:
    world = World()
    _, addr = await serve(world.methods)
    request = pb.ServerReflectionRequest
    answers = await world.ask(
        addr,
        V1,
        request(file_containing_symbol="no.such." * 100),
        request(file_by_filename="mid.proto"),
        request(file_by_filename="no.proto"),
        request(all_extension_numbers_of_type="top.M"),
        request(all_extension_numbers_of_type="top.Nothing"),
        request(file_containing_extension=pb.ExtensionRequest(containing_type="top.M", extension_number=1)),
        request(),
    )
    assert [answer.error_response.error_code for answer in answers] == [5, 0, 5, 0, 5, 5, 3]
    assert len(answers[0].error_response.error_message) < 200
    assert len(answers[1].file_descriptor_response.file_descriptor_proto) == 2
    assert answers[3].all_extension_numbers_response.base_type_name == "top.M"
