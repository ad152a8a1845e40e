DROP FUNCTION amend;
DROP TABLE amendments;
