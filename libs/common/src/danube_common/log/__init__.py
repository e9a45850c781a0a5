"""Tier 1: one log of frames per bundle (architecture D3, D6)."""
