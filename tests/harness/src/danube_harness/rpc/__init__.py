"""RPC servers of a test's own, calls of gRPC's client, and an HTTP/2 client that may break the rules."""
