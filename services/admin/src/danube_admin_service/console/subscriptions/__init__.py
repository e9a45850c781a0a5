"""Subscriptions: the page of one, resets, dead letters, and what is done to them."""
