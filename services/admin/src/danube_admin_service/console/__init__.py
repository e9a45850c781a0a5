"""The web console: pages for operators, on the admin service's HTTP port."""
