"""The log: one ordered sequence of frames per bundle, where a reliable publish becomes durable."""
