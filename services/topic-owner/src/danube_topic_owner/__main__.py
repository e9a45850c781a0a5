"""danube-topic-owner: one topic-owner process. See ``--help``."""

from __future__ import annotations

import sys

from danube_common.runtime.service import run
from danube_topic_owner.service import SERVICE, TopicOwnerConfig, start


def main() -> int:
    """Run until a signal; returns the exit status."""
    return run(SERVICE, TopicOwnerConfig, start)


if __name__ == "__main__":
    sys.exit(main())
