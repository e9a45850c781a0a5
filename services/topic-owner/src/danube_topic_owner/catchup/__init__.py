"""Serves subscriptions that are behind the live feed: from the log, then from the archive."""
