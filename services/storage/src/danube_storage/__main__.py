"""danube-storage: one storage process. See ``--help``."""

from __future__ import annotations

import sys

from danube_common.runtime.service import run
from danube_storage.service import SERVICE, StorageConfig, start


def main() -> int:
    """Run until a signal; returns the exit status."""
    return run(SERVICE, StorageConfig, start)


if __name__ == "__main__":
    sys.exit(main())
