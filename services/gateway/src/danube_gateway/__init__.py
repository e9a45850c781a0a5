"""Terminates client gRPC."""
