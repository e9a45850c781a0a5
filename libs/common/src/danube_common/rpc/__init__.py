"""The seam between RPC handlers and the server library (architecture D15)."""
