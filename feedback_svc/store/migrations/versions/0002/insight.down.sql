DROP INDEX dislikes_by_time;
DROP INDEX dislikes_by_subject_time;
DROP INDEX dislikes_by_session;
