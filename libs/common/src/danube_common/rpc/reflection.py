"""Server reflection, ``grpc.reflection.v1`` and ``v1alpha``: what ``grpcurl list`` and ``describe`` ask.

Protocol: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
The two versions have the same messages under different names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

from danube_common.rpc.port import Call, Methods, StatusCode
from danube_common.rpc.protobuf_strict import parse_strict

NAME_CHARACTERS_MAX: Final = 100
"""A longer name is cut in a message."""


def _as_v1(alpha: FileDescriptor) -> FileDescriptor:
    """Return the file of version 1, which is no part of the library."""
    text = str(text_format.MessageToString(_proto_of(alpha)))
    proto = text_format.Parse(text.replace("v1alpha", "v1"), FileDescriptorProto())
    proto.options.ClearField("deprecated")
    pool = DescriptorPool()
    pool.Add(proto)
    return pool.FindFileByName(proto.name)


def _proto_of(file: FileDescriptor) -> FileDescriptorProto:
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return proto


class ReflectionService:
    """Tells the names of a server's services, and the files that define them.

    Args:
        files: the definitions. If two define the same name, the first one counts.
    """

    def __init__(self, files: Iterable[FileDescriptor]) -> None:
        self._methods = Methods()
        self._files: dict[str, FileDescriptor] = {}
        self._symbols: dict[str, FileDescriptor] = {}
        for file in (*files, health_pb2.DESCRIPTOR, pb.DESCRIPTOR, _as_v1(pb.DESCRIPTOR)):
            for each in reversed(_with_imports(file)):
                self._files.setdefault(each.name, each)
                for symbol in _symbols_of(each):
                    self._symbols.setdefault(symbol, each)

    def register(self, methods: Methods) -> None:
        """Add both versions to ``methods``, whose services are those that are told."""
        self._methods = methods
        for version in ("v1", "v1alpha"):
            methods.bidi[f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"] = self._info

    async def _info(self, _call: Call, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for data in requests:
            request = parse_strict(pb.ServerReflectionRequest, data)
            response = self._answer(request)
            response.valid_host = request.host
            response.original_request.CopyFrom(request)
            yield response.SerializeToString()

    def _answer(self, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        match request.WhichOneof("message_request"):
            case "list_services":
                names = [pb.ServiceResponse(name=name) for name in self._methods.services()]
                listed = pb.ListServiceResponse(service=names)
                return pb.ServerReflectionResponse(list_services_response=listed)
            case "file_by_filename":
                return _definition(self._files.get(request.file_by_filename), request.file_by_filename)
            case "file_containing_symbol":
                symbol = request.file_containing_symbol
                return _definition(self._symbols.get(symbol), symbol)
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                if name not in self._symbols:
                    return _failure(StatusCode.NOT_FOUND, f"there is no {name[:NAME_CHARACTERS_MAX]!r} here")
                numbers = pb.ExtensionNumberResponse(base_type_name=name)
                return pb.ServerReflectionResponse(all_extension_numbers_response=numbers)
            case "file_containing_extension":
                return _failure(StatusCode.NOT_FOUND, "no message here has extensions")
            case _:
                return _failure(StatusCode.INVALID_ARGUMENT, "the request asks for nothing that is known")


def _definition(file: FileDescriptor | None, name: str) -> pb.ServerReflectionResponse:
    if file is None:
        return _failure(StatusCode.NOT_FOUND, f"there is no {name[:NAME_CHARACTERS_MAX]!r} here")
    files = [each.serialized_pb for each in _with_imports(file)]
    found = pb.FileDescriptorResponse(file_descriptor_proto=files)
    return pb.ServerReflectionResponse(file_descriptor_response=found)


def _failure(code: StatusCode, text: str) -> pb.ServerReflectionResponse:
    error = pb.ErrorResponse(error_code=code, error_message=text)
    return pb.ServerReflectionResponse(error_response=error)


def _with_imports(file: FileDescriptor) -> list[FileDescriptor]:
    """Return a file and all that it imports, the file first."""
    found = {file.name: file}
    for each in file.dependencies:
        found |= {one.name: one for one in _with_imports(each) if one.name not in found}
    return list(found.values())


def _symbols_of(file: FileDescriptor) -> Iterator[str]:
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    yield from (enum.full_name for enum in file.enum_types_by_name.values())
    for message in file.message_types_by_name.values():
        yield from _symbols_in(message)


def _symbols_in(message: Descriptor) -> Iterator[str]:
    yield message.full_name
    yield from (field.full_name for field in message.fields)
    yield from (enum.full_name for enum in message.enum_types)
    for nested in message.nested_types:
        yield from _symbols_in(nested)
