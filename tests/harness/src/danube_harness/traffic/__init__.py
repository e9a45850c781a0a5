"""Writers and readers whose every message is accounted for."""
