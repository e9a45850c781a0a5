"""For tests of programs that use Danube: a real platform on this machine, or one in memory."""

from __future__ import annotations

from danube_client.testing.memory import MemoryPlatform
from danube_client.testing.platform import LocalPlatform, PlatformFailed, local_platform

__all__ = ["LocalPlatform", "MemoryPlatform", "PlatformFailed", "local_platform"]
