-- None of these three holds an id of a subject or an item: erasing somebody leaves them alone.
CREATE TABLE leases (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    holder text COLLATE "C" NOT NULL,
    acquire_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE acts (
    act_id text COLLATE "C" NOT NULL PRIMARY KEY,
    use_case text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    automatic boolean NOT NULL,
    release text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    number_names text[] COLLATE "C" NOT NULL,
    number_values float8[] NOT NULL,
    thresholds float8[] NOT NULL,
    act_time timestamptz NOT NULL
);
CREATE INDEX acts_by_time ON acts (act_time, act_id);
CREATE INDEX acts_by_use_case ON acts (use_case, act_time, act_id);

CREATE TABLE experiments (
    experiment_id text COLLATE "C" NOT NULL PRIMARY KEY,
    use_case text COLLATE "C" NOT NULL,
    challenger_share float8 NOT NULL,
    champion_release text COLLATE "C" NOT NULL,
    challenger_release text COLLATE "C" NOT NULL,
    start_time timestamptz NOT NULL,
    stop_time timestamptz,
    stop_reason text COLLATE "C" NOT NULL
);
-- A use case has at most one that runs.
CREATE UNIQUE INDEX experiments_running ON experiments (use_case) WHERE stop_time IS NULL;
CREATE INDEX experiments_by_start ON experiments (use_case, (stop_time IS NULL), start_time, experiment_id);

-- What came of a list: the reactions to items that were on it.
CREATE INDEX interactions_by_session ON interactions (session_id) WHERE rank > 0;
