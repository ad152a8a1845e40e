DROP TABLE record_history;
DROP FUNCTION amend;
DROP TABLE amendments;
