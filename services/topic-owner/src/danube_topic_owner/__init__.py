"""Owns bundles of topics and runs dispatch."""
