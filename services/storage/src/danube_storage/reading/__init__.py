"""Serves archived messages: verified ranges of segments, quarantine of damaged ones."""
