"""Figures that change: scraped from the instances, kept for an hour, drawn as charts."""
