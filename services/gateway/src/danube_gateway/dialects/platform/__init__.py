"""The platform's own client services, beside the official protocol."""
