"""Who calls, and what they may do: credentials, roles and bindings, and the table of all methods."""
