"""Retention: deletes messages that all subscriptions acknowledged, or that are older than their period."""
