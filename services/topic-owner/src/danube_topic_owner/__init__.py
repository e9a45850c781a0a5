"""Owns bundles of topics: dispatches their messages to consumers and keeps their cursors."""
