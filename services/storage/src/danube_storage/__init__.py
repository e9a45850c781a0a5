"""Tier 2: segments on disk or S3."""
