"""The admin service: cluster metadata, leader election, assignment of bundles, and the admin port."""
