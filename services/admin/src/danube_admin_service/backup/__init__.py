"""Backups: reads a consistent copy of the cluster while it runs, and fills an empty cluster from one."""
