"""Asynchronous Python client for Danube."""
