"""The seam between RPC handlers and the server library. Nothing of the library is visible behind it."""
