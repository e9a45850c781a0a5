"""What command-line tools share. Apart from the client library, so that they start without importing it."""
