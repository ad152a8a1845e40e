-- What the retrieval method itself scored each item with, in rank order; null where it was not logged. Raw scores
-- have any range a method likes, so they are kept as wide as they come.
ALTER TABLE sessions ADD COLUMN retrieval_scores float8[];

DROP FUNCTION record_sessions;
