"""Where segments are kept: the store port, its disk, S3 and memory adapters, and the segment builder."""
