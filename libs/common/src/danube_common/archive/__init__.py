"""The archive as all services see it: manifests of segments, and the clients of storage instances."""
