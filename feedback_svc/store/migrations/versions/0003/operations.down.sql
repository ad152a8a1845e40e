DROP INDEX interactions_by_session;
DROP TABLE experiments;
DROP TABLE acts;
DROP TABLE leases;
