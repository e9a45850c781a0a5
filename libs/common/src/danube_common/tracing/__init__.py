"""Traces of messages and calls: off unless configured, and then nothing of this package is called."""
