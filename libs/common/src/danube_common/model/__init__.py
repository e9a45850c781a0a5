"""Domain types of the platform: topics, bundles, positions, schemas, policies. Pure."""
