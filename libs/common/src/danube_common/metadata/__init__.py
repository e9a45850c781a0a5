"""The metadata store: configuration and ownership, with compare-and-set, leases and watches."""
