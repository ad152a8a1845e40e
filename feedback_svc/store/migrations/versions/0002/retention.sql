-- How far retention has come, by rule: up to `to_sequence` everything that the rule's `definition` concerns
-- has gone, so the next run starts there. Of rule `amendments`: those of changes up to there have gone.
CREATE TABLE retention_progress (
    rule text COLLATE "C" NOT NULL PRIMARY KEY,
    definition text COLLATE "C" NOT NULL,
    to_sequence bigint NOT NULL
);

-- Which changes had ended when: a change carries no time.
CREATE TABLE change_marks (
    mark_time timestamptz NOT NULL PRIMARY KEY,
    change_sequence bigint NOT NULL
);

CREATE INDEX sessions_by_sequence ON sessions (sequence);
