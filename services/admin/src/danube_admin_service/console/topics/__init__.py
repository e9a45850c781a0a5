"""Topics: their list, the page of one, its messages, and what is done to them."""
