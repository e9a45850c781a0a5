"""The gateway service: connects gRPC clients to the log and the topic-owners."""
