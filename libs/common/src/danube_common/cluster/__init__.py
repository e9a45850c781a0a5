"""The cluster as the metadata store describes it: keys, records, and live views over them."""
