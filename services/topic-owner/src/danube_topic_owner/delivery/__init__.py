"""Dispatch to consumers: subscriptions, consumer sessions, credit, redelivery."""
