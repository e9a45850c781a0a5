"""danube-gateway: one gateway process. See ``--help``."""

from __future__ import annotations

import sys

from danube_common.runtime.service import run
from danube_gateway.service import SERVICE, GatewayConfig, start


def main() -> int:
    """Run until a signal; returns the exit status."""
    return run(SERVICE, GatewayConfig, start)


if __name__ == "__main__":
    sys.exit(main())
