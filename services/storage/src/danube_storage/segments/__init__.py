"""Segments at rest: the store port, its disk and S3 adapters, and the segment builder."""
