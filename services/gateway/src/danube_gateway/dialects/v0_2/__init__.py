"""The v0.2 contract, layout A: `danube.*` services over the gateway's own model (architecture D14)."""
