"""Archives the bundles of the log: leases, sealing log ranges into segments, replicas."""
