"""Faults on demand: broken connections, disks and S3 answers."""
