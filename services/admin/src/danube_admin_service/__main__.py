"""danube-admin-service: one admin process. See ``--help``."""

from __future__ import annotations

import sys
from functools import partial

from danube_admin_service.console.site import Site
from danube_admin_service.service import KIND, AdminConfig, start
from danube_common.runtime.service import run


def main() -> int:
    """Run until a signal; returns the exit status."""
    site = Site()
    return run(KIND, AdminConfig, partial(start, site=site), app=site.app)


if __name__ == "__main__":
    sys.exit(main())
