-- Erasure: what remains of an erased entity, how late data about it is recognised, and the batches it goes in.
CREATE TABLE tombstones (
    kind text COLLATE "C" NOT NULL,
    id_hash text COLLATE "C" NOT NULL,
    erase_time timestamptz NOT NULL,
    change_sequence bigint NOT NULL,
    PRIMARY KEY (kind, id_hash)
);
CREATE INDEX tombstones_by_change ON tombstones (change_sequence, kind, id_hash);
CREATE INDEX tombstones_by_time ON tombstones (erase_time);

-- The kinds of a use case: the record names use cases and ids, a tombstone kinds and hashes.
CREATE TABLE use_case_kinds (
    use_case text COLLATE "C" NOT NULL PRIMARY KEY,
    subject_kind text COLLATE "C" NOT NULL,
    item_kind text COLLATE "C" NOT NULL
);

CREATE INDEX sessions_by_item ON sessions USING gin (item_ids);
CREATE INDEX dislikes_by_item ON dislikes (use_case, item_id);

-- Not strict, and no more immutable than convert_to is: so that it is inlined.
CREATE FUNCTION erased_hash(of_kind text, of_id text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT encode(sha256(convert_to(of_kind || E'\x1f' || of_id, 'UTF8')), 'hex')
$$;

-- Places of interactions about an entity that was erased at their event time or later. Only what is older
-- than the latest erasure is looked at.
--
-- No lock keeps writers and erasures apart. A writer asks here after its transaction has an id; an erasure
-- commits its tombstone first and then waits for the transactions that had one (await_writers). So a writer
-- either sees the tombstone, or the erasure sees the writer's rows.
CREATE FUNCTION late_places(use_cases text[], subjects text[], items text[], times timestamptz[])
RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    latest timestamptz;
BEGIN
    SELECT max(erase_time) INTO latest FROM tombstones;
    IF latest IS NULL OR latest < (SELECT min(sent.event_time) FROM unnest(times) AS sent (event_time)) THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        SELECT DISTINCT sent.place::int
        FROM unnest(use_cases, subjects, items, times) WITH ORDINALITY
            AS sent (use_case, subject_id, item_id, event_time, place)
        JOIN use_case_kinds k ON k.use_case = sent.use_case
        CROSS JOIN LATERAL (VALUES (k.subject_kind, sent.subject_id), (k.item_kind, sent.item_id))
            AS side (kind, id)
        JOIN tombstones t ON t.kind = side.kind AND t.id_hash = erased_hash(side.kind, side.id)
        WHERE sent.event_time <= latest AND sent.event_time <= t.erase_time
    );
END
$$;

-- Drops what was erased at their serve time or later from lists that this transaction stored; returns the ids
-- of the lists that are left.
CREATE FUNCTION without_erased(stored text[], times timestamptz[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    latest timestamptz;
    list record;
BEGIN
    SELECT max(erase_time) INTO latest FROM tombstones;
    IF latest IS NULL OR latest < (SELECT min(sent.serve_time) FROM unnest(times) AS sent (serve_time)) THEN
        RETURN stored;
    END IF;
    DELETE FROM sessions s USING use_case_kinds k, tombstones t
    WHERE s.session_id = ANY (stored) AND k.use_case = s.use_case AND t.kind = k.subject_kind
        AND t.id_hash = erased_hash(k.subject_kind, s.subject_id) AND s.serve_time <= t.erase_time;
    FOR list IN
        SELECT s.session_id, array_agg(shown.item_id) AS gone
        FROM sessions s
        JOIN use_case_kinds k ON k.use_case = s.use_case
        CROSS JOIN LATERAL unnest(s.item_ids) AS shown (item_id)
        JOIN tombstones t ON t.kind = k.item_kind AND t.id_hash = erased_hash(k.item_kind, shown.item_id)
        WHERE s.session_id = ANY (stored) AND s.serve_time <= latest AND s.serve_time <= t.erase_time
        GROUP BY s.session_id
    LOOP
        PERFORM take_out(ARRAY[list.session_id], list.gone);
    END LOOP;
    RETURN ARRAY(SELECT session_id FROM sessions WHERE session_id = ANY (stored));
END
$$;

-- The first step of an erasure: the entity goes, its tombstone comes.
CREATE FUNCTION entomb(
    of_kind text, of_id text, erased timestamptz,
    OUT entities bigint, OUT erase_time timestamptz, OUT change_sequence bigint
) LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM entities e WHERE e.kind = of_kind AND e.id = of_id;
    GET DIAGNOSTICS entities = ROW_COUNT;
    INSERT INTO tombstones AS kept (kind, id_hash, erase_time, change_sequence)
    VALUES (of_kind, erased_hash(of_kind, of_id), erased, change_now())
    ON CONFLICT (kind, id_hash) DO UPDATE SET
        erase_time = greatest(kept.erase_time, excluded.erase_time),
        change_sequence = greatest(kept.change_sequence, excluded.change_sequence)
    RETURNING kept.erase_time, kept.change_sequence INTO erase_time, change_sequence;
END
$$;

-- Waits until every transaction that has an id now has ended; tells whether they did in time.
CREATE FUNCTION await_writers(most interval) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    open xid8 := pg_snapshot_xmax(pg_current_snapshot());
    until timestamptz := clock_timestamp() + most;
BEGIN
    WHILE pg_snapshot_xmin(pg_current_snapshot()) < open LOOP
        IF clock_timestamp() > until THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(0.002);
    END LOOP;
    RETURN true;
END
$$;

-- Removes interactions, and takes them off their subjects' counts.
CREATE FUNCTION erase_interactions(of_sequences bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    gone_sequences bigint[];
    gone_use_cases text[];
    gone_subjects text[];
BEGIN
    WITH gone AS (
        DELETE FROM interactions WHERE sequence = ANY (of_sequences) RETURNING sequence, use_case, subject_id
    )
    SELECT coalesce(array_agg(sequence), '{}'), array_agg(use_case), array_agg(subject_id)
    INTO gone_sequences, gone_use_cases, gone_subjects FROM gone;
    PERFORM amend('interactions', gone_sequences);
    WITH fewer AS (
        SELECT use_case, subject_id, count(*) AS number
        FROM unnest(gone_use_cases, gone_subjects) AS gone (use_case, subject_id) GROUP BY 1, 2
    ), held AS (
        SELECT c.use_case, c.subject_id, fewer.number
        FROM subject_counts c JOIN fewer ON c.use_case = fewer.use_case AND c.subject_id = fewer.subject_id
        ORDER BY c.use_case, c.subject_id FOR UPDATE OF c
    )
    UPDATE subject_counts c SET interactions = greatest(0, c.interactions - held.number)
    FROM held WHERE c.use_case = held.use_case AND c.subject_id = held.subject_id;
    RETURN cardinality(gone_sequences);
END
$$;

-- Removes the lists of an erased subject (`of_item` null), or an erased item from lists.
CREATE FUNCTION erase_sessions(ids text[], of_item text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    changed bigint[];
BEGIN
    changed := ARRAY(SELECT sequence FROM sessions WHERE session_id = ANY (ids) FOR UPDATE);
    PERFORM amend('sessions', changed);
    IF of_item IS NULL THEN
        DELETE FROM sessions WHERE session_id = ANY (ids);
    ELSE
        PERFORM take_out(ids, ARRAY[of_item]);
    END IF;
    RETURN cardinality(changed);
END
$$;

-- The last step: counts, whatever an upsert under way brought, and the tombstone's place in the changes, so
-- that who follows them learns that all is done.
CREATE FUNCTION erase_rest(of_kind text, of_id text, entombed bigint, as_subject text[], as_item text[])
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    raced bigint;
BEGIN
    DELETE FROM entities e WHERE e.kind = of_kind AND e.id = of_id AND e.change_sequence <= entombed;
    GET DIAGNOSTICS raced = ROW_COUNT;
    DELETE FROM matches WHERE use_case = ANY (as_subject) AND subject_id = of_id;
    DELETE FROM matches WHERE use_case = ANY (as_item) AND item_id = of_id;
    DELETE FROM item_stats WHERE use_case = ANY (as_item) AND item_id = of_id;
    PERFORM FROM subject_counts WHERE use_case = ANY (as_subject) AND subject_id = of_id
    ORDER BY use_case FOR UPDATE;
    UPDATE subject_counts c SET interactions = (
        SELECT count(*) FROM interactions i WHERE i.use_case = c.use_case AND i.subject_id = c.subject_id)
    WHERE c.use_case = ANY (as_subject) AND c.subject_id = of_id;
    DELETE FROM subject_counts
    WHERE use_case = ANY (as_subject) AND subject_id = of_id AND interactions = 0;
    UPDATE tombstones SET change_sequence = greatest(change_sequence, change_now())
    WHERE kind = of_kind AND id_hash = erased_hash(of_kind, of_id);
    RETURN raced;
END
$$;
