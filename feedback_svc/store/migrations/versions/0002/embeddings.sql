-- Vectors derived from an entity's texts, by feature name, each beside the name of its embedder. They live
-- apart from what the client sent, and go when that changes.
ALTER TABLE entities ADD COLUMN derived jsonb;
