"""Wire dialects: each translates one client protocol to the gateway inside."""
