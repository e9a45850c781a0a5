"""Tier 2: segments of the log, and the places that keep them (architecture D9)."""
