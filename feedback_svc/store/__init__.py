"""Where the record is kept: one protocol, PostgreSQL behind it, and memory behind it for tests."""
