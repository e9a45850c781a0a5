"""What every service process is made of: configuration, logs, metrics, health, life cycle."""
