DROP INDEX sessions_by_sequence;
DROP TABLE change_marks;
DROP TABLE retention_progress;
