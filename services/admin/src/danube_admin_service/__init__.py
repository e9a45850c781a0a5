"""Metadata, leader election and assignment."""
