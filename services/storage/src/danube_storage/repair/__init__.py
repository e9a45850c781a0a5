"""Repair: keeps every segment in as many intact copies as configured, and verifies what nobody reads."""
