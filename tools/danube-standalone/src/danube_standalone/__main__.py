"""The command line of ``danube-standalone``, which runs the whole platform on this machine."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from danube_common.runtime.address import bind, check_address
from danube_standalone.data_dir import DataDir, InUse
from danube_standalone.programs import FREE, HOST, Layout
from danube_standalone.standalone import EXIT_FAILED, Standalone, tell

DEFAULT_HTTP_ADDR: Final = "127.0.0.1:9040"
DEFAULT_NATS_PORT: Final = 4222
INSTANCES_MAX: Final = 64


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="danube-standalone",
        description="Run the whole platform on this machine: a NATS server and the services, supervised.",
        epilog="The services also read their environment, e.g. DANUBE_GATEWAY_LOG_LEVEL; see danube-gateway "
        "--help. Exit status: 0 stopped on request, 1 failed, 2 wrong usage, 128 + n second signal n.",
        allow_abbrev=False,
    )
    addr: dict[str, Any] = {"metavar": "HOST:PORT", "type": _address}
    add = parser.add_argument
    add("--data-dir", metavar="DIR", type=Path, default=Path("data"), help="where all data is stored [data]")
    add("--gateway-addr", default="127.0.0.1:6650", help="where clients connect [127.0.0.1:6650]", **addr)
    add("--admin-addr", default="127.0.0.1:50051", help="administration [127.0.0.1:50051]", **addr)
    add("--http-addr", help=f"health and metrics of the admin [{DEFAULT_HTTP_ADDR} or a free port]", **addr)
    add(
        "--nats-port", type=_port, metavar="PORT", help=f"on the loopback [{DEFAULT_NATS_PORT} or a free one]"
    )
    add("--advertised-url", default="", metavar="URL", help="what clients are told to connect to")
    for kind in ("gateways", "topic-owners", "storages", "admins"):
        add(f"--{kind}", type=_count, default=1, metavar="N", help="how many run [1]")
    add(
        "--ready-file",
        type=Path,
        metavar="FILE",
        help="receives a JSON object of what runs, when all is ready",
    )
    add(
        "--ready-seconds-max",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="how long starting may take [60]",
    )
    return parser.parse_args(argv)


def _address(text: str) -> str:
    try:
        return check_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    return int(_address(f"{HOST}:{text}").rpartition(":")[2])


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return seconds


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= INSTANCES_MAX:
        raise argparse.ArgumentTypeError(f"must be 1..{INSTANCES_MAX}, not {text}")
    return int(text)


def check_free(**addresses: str) -> None:
    """Check that addresses, given by flag, are free. Raises OSError with the flag of one that is in use."""
    for flag, addr in addresses.items():
        try:
            bind(addr).close()
        except OSError as error:
            raise OSError(f"{error.strerror} (--{flag.replace('_', '-')})") from None


def is_free(addr: str) -> bool:
    """Return whether an address can be listened on now."""
    try:
        bind(addr).close()
    except OSError:
        return False
    return True


def layout_of(given: argparse.Namespace) -> Layout:
    """Return the layout of the command line. A free port replaces a default port that is in use."""
    http_addr = given.http_addr or (DEFAULT_HTTP_ADDR if is_free(DEFAULT_HTTP_ADDR) else FREE)
    nats_port = given.nats_port
    if nats_port is None:
        nats_port = DEFAULT_NATS_PORT if is_free(f"{HOST}:{DEFAULT_NATS_PORT}") else 0
    return Layout(
        gateway_addr=given.gateway_addr,
        admin_addr=given.admin_addr,
        http_addr=http_addr,
        nats_port=nats_port,
        gateways=given.gateways,
        topic_owners=given.topic_owners,
        storages=given.storages,
        admins=given.admins,
        advertised_url=given.advertised_url,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the platform until a signal; return the exit status."""
    given = arguments(argv)
    try:
        directory = DataDir.open(given.data_dir)
    except (InUse, OSError) as error:
        tell(str(error))
        return EXIT_FAILED
    try:
        layout = layout_of(given)
        check_free(
            gateway_addr=layout.gateway_addr,
            admin_addr=layout.admin_addr,
            http_addr=layout.http_addr,
            nats_port=f"{HOST}:{layout.nats_port}",
        )
        return asyncio.run(Standalone(directory, layout, given.ready_file, given.ready_seconds_max).run())
    except OSError as error:
        tell(str(error))
        return EXIT_FAILED
    finally:
        directory.close()


if __name__ == "__main__":
    sys.exit(main())
