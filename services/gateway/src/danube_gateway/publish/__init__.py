"""The way of a message from a producer to the log or to the topic-owner."""
