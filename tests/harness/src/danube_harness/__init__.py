"""Real servers on free ports and the history checker, for tests."""
