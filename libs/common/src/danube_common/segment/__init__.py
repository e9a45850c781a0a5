"""Segments: the archived part of the log. Their format, and reading them."""
