"""Who looks, and the calls that are made for them."""
