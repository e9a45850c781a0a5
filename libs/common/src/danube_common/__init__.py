"""Domain types, frame format, ports and adapters, service runtime."""
