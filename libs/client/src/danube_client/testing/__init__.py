"""For tests of programs that use Danube: a real platform on this machine, and fixtures for pytest."""

from __future__ import annotations

from danube_client.testing.platform import LocalPlatform, PlatformFailed, local_platform

__all__ = ["LocalPlatform", "PlatformFailed", "local_platform"]
