"""Measure a platform: rates, latencies, lost and repeated messages."""
