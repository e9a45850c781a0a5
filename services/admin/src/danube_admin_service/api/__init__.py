"""The gRPC services of the admin port."""
