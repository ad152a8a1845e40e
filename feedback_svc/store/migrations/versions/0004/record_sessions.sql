-- Stores lists (no id twice); arrays come as array literals, for they differ in length. Returns the ids
-- stored before or of subjects erased since, and how many interactions were tied. The retrieval scores come
-- last and may be left out: so services of the version before can store lists while they are replaced.
CREATE OR REPLACE FUNCTION record_sessions(
    ids text[], use_cases text[], subjects text[], releases text[], arms text[], tiers text[],
    reranks boolean[], sources text[], serve_times timestamptz[], names text[], items text[], score_lists text[],
    method_lists text[], propensity_lists text[], value_lists text[], received timestamptz,
    retrieval_lists text[] DEFAULT NULL,
    OUT duplicates text[], OUT tied bigint
) LANGUAGE plpgsql AS $$
DECLARE
    stored text[];
    amended bigint[];
BEGIN
    PERFORM hold_sessions(ids, true);
    WITH inserted AS (
        INSERT INTO sessions (session_id, use_case, subject_id, release, arm, tier, reranked, source,
            serve_time, receive_time, sequence, feature_names, item_ids, scores, methods, propensities,
            feature_values, retrieval_scores)
        SELECT sent.id, sent.use_case, sent.subject_id, sent.release, sent.arm, sent.tier, sent.reranked,
            sent.source, sent.serve_time, received, change_now() << 9, sent.names::text[],
            sent.items::text[], sent.scores::float8[], sent.methods::text[], sent.propensities::float8[],
            sent.feature_values::real[], sent.retrieval_scores::float8[]
        FROM unnest(ids, use_cases, subjects, releases, arms, tiers, reranks, sources, serve_times, names,
            items, score_lists, method_lists, propensity_lists, value_lists, retrieval_lists)
            AS sent (id, use_case, subject_id, release, arm, tier, reranked, source, serve_time, names,
                items, scores, methods, propensities, feature_values, retrieval_scores)
        ORDER BY sent.id COLLATE "C"
        ON CONFLICT (session_id) DO NOTHING
        RETURNING session_id
    )
    SELECT coalesce(array_agg(session_id), '{}') INTO stored FROM inserted;
    stored := without_erased(stored, serve_times);
    duplicates := ARRAY(
        SELECT id FROM unnest(ids) WITH ORDINALITY AS sent (id, place)
        WHERE NOT id = ANY (stored) ORDER BY place
    );
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
END
$$;
