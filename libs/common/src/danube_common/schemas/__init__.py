"""The schema registry: subjects with versions, the rules of compatibility, and topics' references to them."""
