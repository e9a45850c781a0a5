"""Deletes what no subscription needs any more and what is older than its period."""
