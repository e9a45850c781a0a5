"""Reading: serves archived messages from verified ranges of segments, and quarantines damaged segments."""
