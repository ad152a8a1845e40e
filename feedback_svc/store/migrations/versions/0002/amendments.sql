-- Stored rows of exported tables that were changed or deleted after they were stored: an export reads again
-- what it has of them. Rows pruned from here are told by retention_progress, rule `amendments`; an export that
-- continues an older snapshot reads everything again.
CREATE TABLE amendments (
    change_sequence bigint NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (table_name, change_sequence, sequence)
);

CREATE FUNCTION amend(of_table text, sequences bigint[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO amendments SELECT change_now(), of_table, s FROM unnest(sequences) AS s ON CONFLICT DO NOTHING
$$;

-- One row: which history of the record this is. A restored database is another one: what came after the
-- backup is gone from it, though a snapshot may hold it.
CREATE TABLE record_history (
    single boolean NOT NULL PRIMARY KEY CHECK (single),
    history uuid NOT NULL
);
INSERT INTO record_history VALUES (true, gen_random_uuid());
