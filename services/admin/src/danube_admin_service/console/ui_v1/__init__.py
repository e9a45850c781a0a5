"""`/ui/v1`: what the original's own user interface asks of its admin server, in JSON."""
