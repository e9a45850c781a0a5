"""The same flow over TLS: ``secured_flow.py URL TOPIC COUNT CA_FILE``, with the token in ``DANUBE_TOKEN``."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import flow  # type: ignore[import-not-found]
from danube import DanubeClientBuilder  # type: ignore[import-not-found]


def builder() -> Any:
    """Return a builder as an application makes it."""
    return DanubeClientBuilder().with_tls(sys.argv[4]).with_token(os.environ["DANUBE_TOKEN"])


if __name__ == "__main__":
    flow.DanubeClientBuilder = builder
    asyncio.run(flow.main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
