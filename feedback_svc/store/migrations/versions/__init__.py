"""One file a schema version; SQL beside it."""
