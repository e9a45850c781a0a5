"""Tables: their changelogs restored and compacted, snapshots, and who answers for a key."""
