"""The life of a service process, from configuration to exit status."""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
import structlog
import uvloop

from danube_common.errors import DanubeError
from danube_common.runtime.about import about
from danube_common.runtime.config import ConfigError, Loaded, ServiceConfig, load, program_name
from danube_common.runtime.http import App, Check, Health, HttpServer
from danube_common.runtime.logs import configure_logs
from danube_common.runtime.metrics import Metrics
from danube_common.runtime.tracing_config import open_tracer
from danube_common.tracing.tracer import Tracer

EXIT_STOPPED: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
EXIT_DEADLINE: Final = 3
EXIT_SIGNAL_BASE: Final = 128

CANCEL_S_MAX: Final = 2.0
"""What a cancelled task may still use for its ``finally``."""

STUCK_S: Final = 4 * CANCEL_S_MAX
"""A process that still lives so long after its shutdown deadline dumps its stacks and ends with 1."""

C = TypeVar("C", bound=ServiceConfig)
T = TypeVar("T")
Start = Callable[["Runtime", C], AbstractAsyncContextManager[None]]

Spawn = Callable[[Coroutine[Any, Any, None], str], object]
"""The type of `Runtime.spawn`."""


class Runtime:
    """What a service gets from the process that it runs in.

    Attributes:
        service: its name, e.g. ``topic-owner``.
        instance_id: its identity, a positive 63-bit decimal.
        log: bound to service and instance by the log set-up.
        metrics: the registry of this process.
        stopping: set when the process is asked to end or a background task failed.
        http_url: where health and metrics are served.
        tracer: records spans; None: there are no traces.
    """

    def __init__(self, service: str, instance_id: str) -> None:
        self.service = service
        self.instance_id = instance_id
        self.log: structlog.typing.FilteringBoundLogger = structlog.get_logger(service)
        self.metrics = Metrics(service, instance_id)
        self.stopping = asyncio.Event()
        self.http_url = ""
        self.tracer: Tracer | None = None
        self.health = Health()
        self.failed = False
        self.addresses: dict[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def add_check(self, name: str, check: Check, *, vital: bool = True) -> None:
        """Add a check to readiness, which depends on it if it is ``vital``.

        It answers None when all is well, else what is wrong, and must not block.
        """
        self.health.add_check(name, check, vital=vital)

    def announce(self, **addresses: str) -> None:
        """Add a fact to the ready file and the ``ready`` log line. Call it before the service is ready."""
        self.addresses.update(addresses)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run ``work`` in the background.

        If it raises, the service ends with exit status 1. It may return. Its owner may cancel it; what
        is left when the service's own context has ended is cancelled then. What the caller has bound to its
        lines of log is not bound to those of ``work``, which may outlive it.
        """
        task = asyncio.create_task(work, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel_tasks(self) -> None:
        """Cancel what `spawn` started, and wait for its end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_S_MAX)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self.stopping.is_set():
            self.log.warning("task_failed_while_stopping", task=task.get_name(), error=repr(error))
            return
        self.log.error("task_failed", task=task.get_name(), exc_info=error)
        self.failed = True
        self.stopping.set()


def run(
    service: str,
    config_type: type[C],
    start: Start[C],
    argv: Sequence[str] | None = None,
    *,
    app: App | None = None,
) -> int:
    """Run the service ``service`` until SIGTERM or SIGINT; return the exit status.

    ``start`` is entered with the runtime and the configuration. Once it has entered, the service is ready;
    its exit is the graceful shutdown and has ``shutdown_deadline_s`` from the first signal. A signal
    before ready cancels the entering. A second signal ends the process at once. ``app`` is served on the
    HTTP port beside health and metrics.

    To be called as the last act of a process: a stuck thread is not waited for.

    Returns:
        0 stopped on request, ``--help`` and ``--config-show``; 1 failed at start or later (the log says
        why); 2 wrong configuration (one line on standard error); 3 the shutdown was cut short by its
        deadline. A second signal n ends the process with 128 + n.
    """
    try:
        loaded = load(service, config_type, sys.argv[1:] if argv is None else argv, os.environ)
    except ConfigError as error:
        sys.stderr.write(f"{program_name(service)}: {error}\n")
        return EXIT_CONFIG
    if loaded.show:
        sys.stdout.write("\n".join(loaded.lines()) + "\n")
        return EXIT_STOPPED
    config = loaded.config
    configure_logs(service, config.instance_id, level=config.log_level, log_format=config.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(service, loaded, start, app))


async def _live(service: str, loaded: Loaded[C], start: Start[C], app: App | None) -> int:
    config = loaded.config
    runtime = Runtime(service, config.instance_id)
    runtime.tracer = open_tracer(config.tracing, service, config.instance_id, runtime.metrics)
    phase = "starting"
    runtime.add_check("service", lambda: None if phase == "ready" else phase)
    http = HttpServer(runtime.health, runtime.metrics, config.http_tls, lambda: about(service, config), app)

    async def serve() -> None:
        nonlocal phase
        runtime.http_url = await http.start(config.http_addr)
        runtime.announce(http_url=runtime.http_url)
        async with start(runtime, config):
            if not runtime.stopping.is_set():
                phase = "ready"
                _write_ready_file(config.ready_file, runtime)
                runtime.log.info("ready", **runtime.addresses)
                # What start-up loaded lives as long as the process: the collector need not visit it again.
                gc.freeze()
            await runtime.stopping.wait()
            phase = "stopping"
            runtime.log.info("stopping", failed=runtime.failed)

    _obey_signals(runtime, config.shutdown_deadline_s)
    body = asyncio.create_task(serve(), name="service")
    stopping = asyncio.create_task(runtime.stopping.wait(), name="stopping")
    await asyncio.wait((body, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if phase == "starting":
        body.cancel()
    _done, late = await asyncio.wait((body,), timeout=config.shutdown_deadline_s)
    phase = "stopping"
    if late:
        runtime.log.error("shutdown_deadline_passed", deadline_s=config.shutdown_deadline_s)
        body.cancel()
        await asyncio.wait((body,), timeout=CANCEL_S_MAX)
    status = _status(runtime, body, late=bool(late))
    runtime.stopping.set()
    await runtime.cancel_tasks()
    await http.stop()
    await _sweep(runtime)
    if runtime.tracer is not None:
        runtime.tracer.close()
    _remove_ready_file(config.ready_file)
    runtime.log.info("stopped", status=status)
    return status


def _status(runtime: Runtime, body: asyncio.Task[None], *, late: bool) -> int:
    error = body.exception() if body.done() and not body.cancelled() else None
    if error is not None:
        # What the platform raises on purpose, and what the system says about addresses and files, reads
        # better without the path through our code.
        told = isinstance(error, DanubeError | OSError)
        runtime.log.error("failed", error=str(error), exc_info=None if told else error)
    if late:
        return EXIT_DEADLINE
    return EXIT_FAILED if runtime.failed or error is not None else EXIT_STOPPED


def _obey_signals(runtime: Runtime, deadline_s: float) -> None:
    """The first signal asks to stop, the second ends the process; both until the loop is closed."""
    asked: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        if asked:
            runtime.log.warning("stopped_at_once", signal=number.name)
            os._exit(EXIT_SIGNAL_BASE + number)
        asked.append(number)
        runtime.log.info("signal", signal=number.name)
        runtime.stopping.set()
        # The last resort, outside of the event loop and never called off: neither a stuck loop nor a stuck
        # thread keeps the process.
        faulthandler.dump_traceback_later(deadline_s + STUCK_S, exit=True, file=sys.__stderr__ or sys.stderr)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)


async def _sweep(runtime: Runtime) -> None:
    """End tasks that nobody owns; each is a fault of its owner, so it is named."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if not left:
        return
    runtime.log.warning("tasks_left", tasks=sorted(task.get_name() for task in left))
    for task in left:
        task.cancel()
    _done, stuck = await asyncio.wait(left, timeout=CANCEL_S_MAX)
    if stuck:
        runtime.log.error("tasks_stuck", tasks=sorted(task.get_name() for task in stuck))


def _write_ready_file(path: Path | None, runtime: Runtime) -> None:
    if path is None:
        return
    told = {"service": runtime.service, "instance_id": runtime.instance_id, "pid": os.getpid()}
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_bytes(orjson.dumps(told | runtime.addresses))
    unfinished.replace(path)


def _remove_ready_file(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)
