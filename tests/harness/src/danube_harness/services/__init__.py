"""Single services under test, and stand-ins for their neighbours."""
