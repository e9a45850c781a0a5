"""Namespaces and schemas, and what is done to them."""
