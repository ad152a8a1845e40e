-- Stores lists (no id twice); arrays come as array literals, for they differ in length. Returns the ids
-- stored before or of subjects erased since, and how many interactions were tied. The retrieval scores may be
-- left out, as services of schema 0003 do.
--
-- List by list: most come alone, and joining unnested arrays takes longer to set up than one list to store.
-- What hardly ever is to be done, tying and taking out what was erased, is asked for first: by the list's id,
-- which needs no look through all that waits, and after the transaction has its id (see late_places).
CREATE OR REPLACE FUNCTION record_sessions(
    ids text[], use_cases text[], subjects text[], releases text[], arms text[], tiers text[],
    reranks boolean[], sources text[], serve_times timestamptz[], names text[], items text[], score_lists text[],
    method_lists text[], propensity_lists text[], value_lists text[], received timestamptz,
    retrieval_lists text[] DEFAULT NULL,
    OUT duplicates text[], OUT tied bigint
) LANGUAGE plpgsql AS $$
DECLARE
    change bigint;
    stored text[] := '{}';
    latest timestamptz;
    reaction boolean;
    dislike boolean;
    reactions_wait boolean := false;
    dislikes_wait boolean := false;
    amended bigint[];
BEGIN
    duplicates := '{}';
    tied := 0;
    PERFORM hold_sessions(ids, true);
    change := change_now() << 9;
    FOR place IN 1..cardinality(ids) LOOP
        INSERT INTO sessions (session_id, use_case, subject_id, release, arm, tier, reranked, source,
            serve_time, receive_time, sequence, feature_names, item_ids, scores, methods, propensities,
            feature_values, retrieval_scores)
        VALUES (ids[place], use_cases[place], subjects[place], releases[place], arms[place], tiers[place],
            reranks[place], sources[place], serve_times[place], received, change, names[place]::text[],
            items[place]::text[], score_lists[place]::float8[], method_lists[place]::text[],
            propensity_lists[place]::float8[], value_lists[place]::real[], retrieval_lists[place]::float8[])
        ON CONFLICT (session_id) DO NOTHING;
        IF FOUND THEN
            stored := stored || ids[place];
            SELECT EXISTS (SELECT FROM interactions i WHERE i.session_id = ids[place] AND i.rank IS NULL),
                EXISTS (SELECT FROM dislikes d WHERE d.session_id = ids[place] AND d.predicted_score IS NULL)
            INTO reaction, dislike;
            reactions_wait := reactions_wait OR reaction;
            dislikes_wait := dislikes_wait OR dislike;
        END IF;
    END LOOP;
    SELECT max(erase_time) INTO latest FROM tombstones;
    IF latest >= ANY (serve_times) THEN
        stored := without_erased(stored, serve_times);
    END IF;
    IF cardinality(stored) < cardinality(ids) THEN
        duplicates := ARRAY(
            SELECT id FROM unnest(ids) WITH ORDINALITY AS sent (id, place)
            WHERE NOT id = ANY (stored) ORDER BY place
        );
    END IF;
    IF reactions_wait THEN
        WITH changed AS (UPDATE interactions i SET
            rank = coalesce(array_position(s.item_ids, i.item_id), 0),
            score = s.scores[array_position(s.item_ids, i.item_id)],
            method = nullif(s.methods[array_position(s.item_ids, i.item_id)], ''),
            release = s.release
        FROM unnest(stored) AS new (id) JOIN sessions s ON s.session_id = new.id
        WHERE i.session_id = s.session_id AND i.rank IS NULL AND i.session_id IS NOT NULL
            AND i.use_case = s.use_case AND i.subject_id = s.subject_id
        RETURNING i.sequence)
        SELECT count(*), array_agg(sequence) INTO tied, amended FROM changed;
        IF amended IS NOT NULL THEN
            PERFORM amend('interactions', amended);
        END IF;
    END IF;
    IF dislikes_wait THEN
        WITH changed AS (UPDATE dislikes d SET
            predicted_score = greatest(0.0, least(1.0, s.scores[array_position(s.item_ids, d.item_id)])),
            error = greatest(0.0, least(1.0, s.scores[array_position(s.item_ids, d.item_id)]))
        FROM unnest(stored) AS new (id) JOIN sessions s ON s.session_id = new.id
        WHERE d.session_id = s.session_id AND d.predicted_score IS NULL AND d.session_id IS NOT NULL
            AND d.use_case = s.use_case AND d.subject_id = s.subject_id
            AND array_position(s.item_ids, d.item_id) IS NOT NULL
        RETURNING d.sequence)
        SELECT array_agg(sequence) INTO amended FROM changed;
        IF amended IS NOT NULL THEN
            PERFORM amend('dislikes', amended);
        END IF;
    END IF;
END
$$;
