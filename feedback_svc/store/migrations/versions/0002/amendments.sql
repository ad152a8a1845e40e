-- Stored rows of the large exported tables that were changed or deleted after they were stored.
CREATE TABLE amendments (
    change_sequence bigint NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (table_name, change_sequence, sequence)
);

CREATE FUNCTION amend(of_table text, sequences bigint[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO amendments SELECT change_now(), of_table, s FROM unnest(sequences) AS s ON CONFLICT DO NOTHING
$$;
