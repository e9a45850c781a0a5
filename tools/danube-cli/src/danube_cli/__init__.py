"""Produce and consume from the command line."""
