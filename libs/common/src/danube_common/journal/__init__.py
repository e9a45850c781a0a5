"""The state journal of each bundle: the events from which an owner rebuilds what it knows."""
