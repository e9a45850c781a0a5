"""The command line of ``danube-standalone``, which runs the whole platform on this machine."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from danube_common.runtime.address import bind, check_address, check_url, split_address
from danube_common.runtime.environment import SERVICES, unknown_variables, variable
from danube_common.runtime.version import platform_version
from danube_standalone.data_dir import DataDir, Unusable
from danube_standalone.programs import FREE, HOST, SETTINGS, Layout, http_addresses
from danube_standalone.standalone import EXIT_FAILED, Standalone, tell

DEFAULT_HTTP_ADDR: Final = "127.0.0.1:9040"
DEFAULT_NATS_PORT: Final = 4222
INSTANCES_MAX: Final = 64
ONE_PORT: Final = "one"
PORT_EACH: Final = "each"
KINDS: Final = {
    "gateways": "gateway",
    "topic-owners": "topic-owner",
    "storages": "storage",
    "admins": "admin",
}
"""The kind of service that each flag counts."""


def arguments(argv: Sequence[str] | None, environment: Mapping[str, str]) -> argparse.Namespace:
    """Parse the command line and the environment; a flag wins."""
    parser = argparse.ArgumentParser(
        prog="danube-standalone",
        description="Run the whole platform on this machine: a NATS server and the services, supervised.",
        epilog="Each flag may also stand in the environment variable named with it. The services read their "
        "own variables, e.g. DANUBE_GATEWAY_LOG_LEVEL; see danube-gateway --help. Exit status: 0 stopped "
        "on request, 1 failed, 2 wrong usage, 128 + n second signal n.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {platform_version()}")
    settings: dict[str, tuple[Callable[[str], object], object]] = {}

    def add(
        flag: str, kind: Callable[[str], object], metavar: str, text: str, default: object = None
    ) -> None:
        settings[flag] = kind, default
        shown = f"{text} [{variable('standalone', flag)}]"
        parser.add_argument(f"--{flag}", type=kind, metavar=metavar, help=shown)

    add("data-dir", _directory, "DIR", "where all data is stored [data]", Path("data"))
    add("gateway-addr", _address, "HOST:PORT", "where clients connect [127.0.0.1:6650]", "127.0.0.1:6650")
    add("admin-addr", _address, "HOST:PORT", "administration [127.0.0.1:50051]", "127.0.0.1:50051")
    add(
        "http-addr",
        _address,
        "HOST:PORT",
        "health and metrics of the admin; the next ports are those of gateway, topic-owner and storage, 10 "
        f"more those of each second instance and so on; port 0: free ones [{DEFAULT_HTTP_ADDR}]",
    )
    add("nats-port", _port, "PORT", f"on the loopback [{DEFAULT_NATS_PORT} or a free one]")
    add("advertised-url", _url, "URL", "what clients are told to connect to", "")
    for flag in KINDS:
        add(flag, _count, "N", "how many run [1]", 1)
    add(
        "gateway-ports",
        _gateway_ports,
        "one|each",
        "several gateways: all on the port of --gateway-addr, and the system spreads connections over them; "
        "or the first there and each other on a free port [one]",
        ONE_PORT,
    )
    add("ready-file", _new_file, "FILE", "receives a JSON object of what runs, when all is ready")
    add("ready-seconds-max", _seconds, "S", "how long starting may take [60]", 60.0)
    parser.add_argument(
        "--restore",
        action="store_true",
        help="start only what restores a backup into an empty data directory: NATS and one admin instance",
    )
    parser.add_argument(
        "--stop-at-stdin-end",
        action="store_true",
        help="stop as well when standard input ends, so with the program that holds its other end",
    )

    given = parser.parse_args(argv)
    problem = _wrong_variables(environment, {variable("standalone", flag) for flag in settings})
    if problem:
        parser.error(problem)
    for flag, (kind, default) in settings.items():
        name, field = variable("standalone", flag), flag.replace("-", "_")
        try:
            value = kind(environment[name]) if name in environment else default
        except argparse.ArgumentTypeError as error:
            parser.error(f"{name}: {error}")
        if getattr(given, field) is None:
            setattr(given, field, value)
    return given


def _wrong_variables(environment: Mapping[str, str], known: Collection[str]) -> str:
    """What is wrong with the names of variables; the services themselves check the rest of theirs."""
    if unknown_variables(environment, "standalone", known):
        from danube_common.runtime.config import ServiceConfig  # noqa: PLC0415 - slow, and only for the hint

        shared = [variable(service, field) for service in SERVICES for field in ServiceConfig.model_fields]
        return unknown_variables(environment, "standalone", known, shared)
    for service in SERVICES:
        for setting, instead in SETTINGS.items():
            if (name := variable(service, setting)) in environment:
                return f"{name} has no effect here, because danube-standalone sets it: {instead}"
    return ""


def _address(text: str) -> str:
    try:
        return check_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _url(text: str) -> str:
    try:
        return check_url(text) if text else text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty; the current directory is .")
    return Path(text)


def _new_file(text: str) -> Path:
    file = Path(text)
    if file.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a directory")
    if not os.access(file.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{file.parent} is not a directory that can be written")
    return file


def _port(text: str) -> int:
    return int(_address(f"{HOST}:{text}").rpartition(":")[2])


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return seconds


def _gateway_ports(text: str) -> str:
    if text not in (ONE_PORT, PORT_EACH):
        raise argparse.ArgumentTypeError(f"must be {ONE_PORT} or {PORT_EACH}, not {text!r}")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= INSTANCES_MAX:
        raise argparse.ArgumentTypeError(f"must be 1..{INSTANCES_MAX}, not {text!r}")
    return int(text)


def check_free(flag: str, addr: str, taken: dict[int, str]) -> None:
    """Check that an address is free and no other flag of ``taken``, by port, has it; then add it.

    Raises OSError that names the flag.
    """
    port = split_address(addr)[1]
    if port in taken:
        raise OSError(f"{addr} ({flag}) has the port of {taken[port]}")
    try:
        bind(addr).close()
    except OSError as error:
        raise OSError(f"{error.strerror} ({flag})") from None
    if port:
        taken[port] = flag


def is_free(addr: str) -> bool:
    """Return whether an address can be listened on now."""
    try:
        bind(addr).close()
    except OSError:
        return False
    return True


def layout_of(given: argparse.Namespace) -> Layout:
    """Return the layout of the command line. A free port replaces a default port that is in use.

    Raises:
        OSError: an address that was asked for is in use.
        ValueError: there are not so many ports.
    """
    counts = {kind: getattr(given, flag.replace("-", "_")) for flag, kind in KINDS.items()}
    nats_port = given.nats_port
    if nats_port is None:
        nats_port = DEFAULT_NATS_PORT if is_free(f"{HOST}:{DEFAULT_NATS_PORT}") else 0
    asked = {
        "--gateway-addr": given.gateway_addr,
        "--admin-addr": given.admin_addr,
        "--nats-port": f"{HOST}:{nats_port}",
    }
    taken: dict[int, str] = {}
    for flag, addr in asked.items():
        check_free(flag, addr, taken)
    http_addrs = http_addresses(given.http_addr or DEFAULT_HTTP_ADDR, counts)
    for name, addr in http_addrs.items():
        if given.http_addr:
            check_free("--http-addr", addr, taken)
        elif split_address(addr)[1] in taken or not is_free(addr):
            tell(f"{addr} is in use: health and metrics of {name} are elsewhere (--http-addr chooses)")
            http_addrs[name] = FREE
    return Layout(
        gateway_addr=given.gateway_addr,
        admin_addr=given.admin_addr,
        http_addrs=http_addrs,
        nats_port=nats_port,
        counts=counts,
        advertised_url=given.advertised_url,
        port_each=given.gateway_ports == PORT_EACH,
        restore=given.restore,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the platform until a signal; return the exit status."""
    given = arguments(argv, os.environ)
    try:
        directory = DataDir.open(given.data_dir)
    except Unusable as error:
        tell(str(error))
        return EXIT_FAILED
    try:
        layout = layout_of(given)
    except (OSError, ValueError) as error:
        tell(str(error))
        directory.close()
        return EXIT_FAILED
    try:
        with layout.with_port_kept() as kept:
            standalone = Standalone(directory, kept, given.ready_file, given.ready_seconds_max)
            return asyncio.run(standalone.run(sys.stdin.fileno() if given.stop_at_stdin_end else None))
    except OSError as error:
        tell(str(error))
        return EXIT_FAILED
    finally:
        directory.close()


if __name__ == "__main__":
    sys.exit(main())
