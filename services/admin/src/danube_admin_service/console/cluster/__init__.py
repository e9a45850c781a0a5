"""Instances, bundles and loads: the overview, moves, and what is done to topic owners."""
