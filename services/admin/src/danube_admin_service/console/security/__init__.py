"""Roles, bindings and API keys, the audit log, and what is done to the former."""
