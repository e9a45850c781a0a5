from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner

from danube_admin_cli.__main__ import app
from danube_proto import (
    danube_admin_pb2,
    danube_operations_pb2,
    danube_platform_pb2,
    danube_schema_pb2,
)


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


class StubAdmin(grpc.GenericRpcHandler):
    """Answers every method as told, on a free port.

    Attributes:
        answers: by full method name: a message, or a status with its text.
        series: by full method name: answers to give first, one after the other.
        requests: what was asked, in order.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Message | tuple[grpc.StatusCode, str]] = {}
        self.series: dict[str, list[Message]] = {}
        self.requests: list[tuple[str, Message]] = []
        self._types = {
            f"/{service.full_name}/{method.name}": method.input_type
            for file in (danube_admin_pb2, danube_operations_pb2, danube_platform_pb2, danube_schema_pb2)
            for service in file.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        }
        self._server = grpc.server(ThreadPoolExecutor(2), handlers=[self], options=[("grpc.so_reuseport", 0)])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop(None).wait()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        if method not in self.answers and method not in self.series:
            return None
        input_type = self._types[method]

        def answer(request: Message, context: grpc.ServicerContext) -> Message:
            self.requests.append((method, request))
            outcome = self.series[method].pop(0) if self.series.get(method) else self.answers[method]
            if isinstance(outcome, Message):
                return outcome
            context.abort(*outcome)
            raise AssertionError

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=input_type._concrete_class.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )


class Cli:
    """Runs the command in this process."""

    def __init__(self, endpoint: str) -> None:
        self._environment = {"DANUBE_ADMIN_ENDPOINT": endpoint}

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> Ended:
        ended = CliRunner().invoke(app, arguments, env=self._environment, input=stdin)
        if not isinstance(ended.exception, SystemExit | None):
            raise ended.exception
        return Ended(ended.exit_code, ended.stdout, ended.stderr)


@pytest.fixture
def service() -> Iterator[StubAdmin]:
    service = StubAdmin()
    yield service
    service.stop()


@pytest.fixture
def cli(service: StubAdmin) -> Cli:
    return Cli(service.endpoint)
