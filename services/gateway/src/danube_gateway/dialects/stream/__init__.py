"""Native streaming: batches between clients and the log (docs/wire/stream.md)."""
