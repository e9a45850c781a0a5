"""Answers requests of gateways and the admin service."""
