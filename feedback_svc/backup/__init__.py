"""A backup of the record: PostgreSQL's own dump of one moment, checksums beside it, and the way back."""
