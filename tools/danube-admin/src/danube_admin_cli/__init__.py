"""Administer a Danube cluster from the command line."""
