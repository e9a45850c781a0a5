"""What an owner knows and how it is kept: events, their fold, cursors, and the journal writer."""
