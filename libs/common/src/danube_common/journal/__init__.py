"""The state journal of each bundle: what its owner knows, as a fold of records (architecture D7)."""
