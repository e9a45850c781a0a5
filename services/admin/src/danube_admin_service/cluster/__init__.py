"""Runs the cluster: leader election, assignment of bundles to owners, rebalancing."""
