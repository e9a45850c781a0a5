"""What travels between services on the bus: frames, deliveries, and one module for each request protocol."""
