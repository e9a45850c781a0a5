"""Messages of the contracts, compiled for the tests alone into a pool of their own."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc  # type: ignore[import-untyped]

CONTRACTS = Path(__file__).resolve().parents[2] / "proto"
FILES = ("danube_api.proto", "danube_admin.proto", "danube_platform.proto")


@cache
def pool() -> DescriptorPool:
    """The contracts as `proto/` has them now, not as somebody generated them some day."""
    compiled = DescriptorPool()
    with tempfile.TemporaryDirectory() as directory:
        for name in FILES:
            out = Path(directory) / f"{name}.binpb"
            status = protoc.main(["protoc", f"-I{CONTRACTS}", f"--descriptor_set_out={out}", name])
            assert status == 0, f"{name} does not compile"
            for file in FileDescriptorSet.FromString(out.read_bytes()).file:
                compiled.Add(file)
    return compiled


@cache
def message_class(full_name: str) -> Any:
    """The class of one message, e.g. ``danube.ProducerRequest``."""
    return GetMessageClass(pool().FindMessageTypeByName(full_name))


class Package:
    """The messages of one package as attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, message: str) -> Any:
        if message.startswith("_"):
            raise AttributeError(message)
        return message_class(f"{self._name}.{message}")


danube = Package("danube")
danube_admin = Package("danube_admin")
danube_platform = Package("danube_platform")
