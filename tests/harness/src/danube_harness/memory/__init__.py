"""In-memory twins of the adapters: the ports' second implementations, which pass the same contract tests."""
