"""The scenario `reliable` over TLS: ``secured_flow.py URL TOPIC COUNT CA_FILE``; the token: DANUBE_TOKEN."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import scenarios  # type: ignore[import-not-found]
from danube import DanubeClientBuilder  # type: ignore[import-untyped]


def builder() -> Any:
    """Return a builder as an application makes it."""
    return DanubeClientBuilder().with_tls(sys.argv[4]).with_token(os.environ["DANUBE_TOKEN"])


if __name__ == "__main__":
    scenarios.DanubeClientBuilder = builder
    asyncio.run(scenarios.main(sys.argv[1], "reliable", sys.argv[2], int(sys.argv[3])))
