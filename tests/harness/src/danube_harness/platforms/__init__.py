"""Whole platforms as processes: standalone and clusters."""
