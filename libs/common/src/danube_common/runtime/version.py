"""The version that a program of the platform tells."""

from importlib.metadata import PackageNotFoundError, version


def platform_version() -> str:
    """Return the version of the workspace's services, or of `danubepy-server`, the wheel that holds them."""
    try:
        return version("danubepy-common")
    except PackageNotFoundError:
        return version("danubepy-server")
