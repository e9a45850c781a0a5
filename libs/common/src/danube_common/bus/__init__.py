"""The internal bus: at-most-once messages and request-reply between services."""
