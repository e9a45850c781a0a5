"""Tier 2 as all services see it: its catalogue, and what they ask the storage service (architecture D9)."""
