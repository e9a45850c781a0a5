"""Domain types, frame format, ports and adapters, service runtime."""

from danube_common.runtime.lazy_import import import_when_used

# A fifth of what a service imports. nats-py imports it for WebSockets, which no service uses.
import_when_used("aiohttp")
