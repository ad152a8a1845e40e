-- Counting dislikes reads these two alone, not the table: by all, and by one subject.
CREATE INDEX dislikes_by_time ON dislikes (use_case, event_time, dislike_id) INCLUDE (reason, error);
CREATE INDEX dislikes_by_subject_time ON dislikes (use_case, subject_id, event_time, dislike_id)
    INCLUDE (reason, error);
-- What was disliked from a list that a sample took.
CREATE INDEX dislikes_by_session ON dislikes (session_id, item_id) WHERE session_id IS NOT NULL;
