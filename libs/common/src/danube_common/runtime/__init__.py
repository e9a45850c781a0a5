"""The parts of every service process: configuration, logs, metrics, health, life cycle."""
