"""NATS as all adapters use it: the connection, its parser and the JetStream client."""
