-- The record: catalogue, sessions, interactions, dislikes, and what is counted of them.

-- Change sequences.
--
-- A reader that keeps "the highest sequence seen" and asks for what is above it must never miss a change
-- that commits late. So a change carries the id of its transaction (64 bits, never wraps), and readers are
-- shown only what lies below the oldest transaction that still runs (change_horizon): every transaction
-- below it has ended, so nothing can appear there any more.
--
-- A cluster restored from a dump counts transactions from the start again. `sequence_offset` is added to
-- every id: `python -m feedback_svc.migrate --restored` raises it over the highest sequence stored, before
-- the services start. Sequences then go on growing, and no reader has to start over.
CREATE TABLE change_clock (
    single boolean NOT NULL PRIMARY KEY CHECK (single),
    sequence_offset bigint NOT NULL
);
INSERT INTO change_clock VALUES (true, 0);

CREATE FUNCTION change_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT sequence_offset + pg_current_xact_id()::text::bigint FROM change_clock
$$;

CREATE FUNCTION change_horizon() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT sequence_offset + pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM change_clock
$$;

-- What is left at `later` of 1 at `earlier`; the bound keeps float8 from underflowing, which is an error.
CREATE FUNCTION halved(earlier timestamptz, later timestamptz, half_life_seconds float8)
RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
    SELECT power(2.0::float8, greatest(-500.0, -date_part('epoch', later - earlier) / half_life_seconds))
$$;

CREATE TABLE entities (
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    features jsonb NOT NULL,
    active boolean NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    change_sequence bigint NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX entities_by_change ON entities (change_sequence, kind, id);

CREATE TABLE item_stats (
    use_case text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    views bigint NOT NULL,
    interactions bigint NOT NULL,
    decayed_weight float8 NOT NULL,
    decay_time timestamptz NOT NULL,
    half_life_seconds float8 NOT NULL,
    change_sequence bigint NOT NULL,
    PRIMARY KEY (use_case, item_id)
) WITH (fillfactor = 80);
CREATE INDEX item_stats_by_change ON item_stats (use_case, change_sequence, item_id);

CREATE TABLE subject_counts (
    use_case text COLLATE "C" NOT NULL,
    subject_id text COLLATE "C" NOT NULL,
    interactions bigint NOT NULL,
    PRIMARY KEY (use_case, subject_id)
) WITH (fillfactor = 80);

CREATE TABLE sessions (
    session_id text COLLATE "C" NOT NULL PRIMARY KEY,
    use_case text COLLATE "C" NOT NULL,
    subject_id text COLLATE "C" NOT NULL,
    release text COLLATE "C" NOT NULL,
    arm text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    reranked boolean NOT NULL,
    source text COLLATE "C" NOT NULL,
    serve_time timestamptz NOT NULL,
    receive_time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    feature_names text[] COLLATE "C" NOT NULL,
    item_ids text[] COLLATE "C" NOT NULL,
    scores float8[] NOT NULL,
    methods text[] COLLATE "C" NOT NULL,
    propensities float8[],
    feature_values real[] NOT NULL
);
CREATE INDEX sessions_by_subject ON sessions (use_case, subject_id, serve_time, session_id);
CREATE INDEX sessions_by_time ON sessions (use_case, serve_time, session_id);

CREATE TABLE interactions (
    sequence bigint NOT NULL PRIMARY KEY,
    interaction_id text COLLATE "C" NOT NULL,
    use_case text COLLATE "C" NOT NULL,
    subject_id text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    event_time timestamptz NOT NULL,
    receive_time timestamptz NOT NULL,
    hides boolean NOT NULL,
    session_id text COLLATE "C",
    rank smallint,
    score float8,
    method text COLLATE "C",
    release text COLLATE "C"
);
CREATE UNIQUE INDEX interactions_by_id ON interactions (interaction_id);
CREATE INDEX interactions_by_subject
    ON interactions (use_case, subject_id, event_time, sequence) INCLUDE (item_id, event_type);
CREATE INDEX interactions_hiding
    ON interactions (use_case, subject_id, event_time, sequence) INCLUDE (item_id) WHERE hides;
CREATE INDEX interactions_by_item ON interactions (use_case, item_id, sequence);
CREATE INDEX interactions_waiting ON interactions (session_id) WHERE rank IS NULL AND session_id IS NOT NULL;

CREATE TABLE dislikes (
    dislike_id text COLLATE "C" NOT NULL PRIMARY KEY,
    sequence bigint NOT NULL,
    use_case text COLLATE "C" NOT NULL,
    subject_id text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    comment text COLLATE "C" NOT NULL,
    session_id text COLLATE "C",
    predicted_score float8,
    error float8,
    example_weight float8 NOT NULL,
    event_time timestamptz NOT NULL,
    receive_time timestamptz NOT NULL,
    cut float8 NOT NULL,
    change_features text[] COLLATE "C" NOT NULL,
    change_values text[] COLLATE "C" NOT NULL,
    factors_before float8[] NOT NULL,
    factors_after float8[] NOT NULL,
    used_by_release text COLLATE "C"
);
CREATE UNIQUE INDEX dislikes_by_sequence ON dislikes (use_case, sequence);
CREATE INDEX dislikes_by_subject ON dislikes (use_case, subject_id, sequence);
CREATE INDEX dislikes_unused ON dislikes (use_case, sequence) INCLUDE (error) WHERE used_by_release IS NULL;
CREATE INDEX dislikes_waiting ON dislikes (session_id)
    WHERE predicted_score IS NULL AND session_id IS NOT NULL;

CREATE TABLE weight_factors (
    use_case text COLLATE "C" NOT NULL,
    subject_id text COLLATE "C" NOT NULL,
    feature text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    factor float8 NOT NULL,
    as_of timestamptz NOT NULL,
    PRIMARY KEY (use_case, subject_id, feature, value)
);

CREATE TABLE retrainings (
    use_case text COLLATE "C" NOT NULL,
    release text COLLATE "C" NOT NULL,
    to_sequence bigint NOT NULL,
    marked bigint NOT NULL,
    mark_time timestamptz NOT NULL,
    PRIMARY KEY (use_case, release)
);
CREATE INDEX retrainings_by_time ON retrainings (use_case, mark_time);
