"""Consumer streams: deliveries down, credit and acknowledgements up."""
