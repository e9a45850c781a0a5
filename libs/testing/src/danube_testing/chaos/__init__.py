"""Faults by a seed on a running platform under load, and what became of every message."""
