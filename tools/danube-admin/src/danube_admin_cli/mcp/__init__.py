"""The commands of ``danube-admin`` as tools of the Model Context Protocol."""
