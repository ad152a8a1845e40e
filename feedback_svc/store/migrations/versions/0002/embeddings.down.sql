ALTER TABLE entities DROP COLUMN derived;
