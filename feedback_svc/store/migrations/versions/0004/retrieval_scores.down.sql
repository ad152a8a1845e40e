DROP FUNCTION record_sessions;
ALTER TABLE sessions DROP COLUMN retrieval_scores;
