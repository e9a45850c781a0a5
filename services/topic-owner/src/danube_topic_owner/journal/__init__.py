"""The owner's durable state: events, the state that they describe, cursors, and the journal writer."""
