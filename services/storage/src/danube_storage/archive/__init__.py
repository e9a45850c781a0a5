"""Archiving: leases on bundles, sealing of log ranges into segments, replicas of segments."""
