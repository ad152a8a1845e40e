-- The hot statements are functions: one round trip each, planned once a connection, and every statement in
-- them sees what committed while it waited for a lock.
--
-- Locks, always in this order, so that no two calls wait for each other: session stripes (ascending),
-- interaction ids, item counts, subject counts, matches (each sorted).

-- Stores a batch (at most 512, no id twice) and returns the ids that were stored before or are about an entity
-- erased since. `match_roles` as note_matches takes them, of the forward use cases `match_use_cases`.
CREATE OR REPLACE FUNCTION record_interactions(
    ids text[], use_cases text[], subjects text[], items text[], events text[], times timestamptz[],
    session_ids text[], hiding boolean[], viewing int[], counting int[], weights float8[],
    half_lives float8[], received timestamptz, match_use_cases text[] DEFAULT '{}',
    match_roles int[] DEFAULT '{}'
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    change bigint;
    stored int[];
    repeated int[] := '{}';
    late int[];
BEGIN
    PERFORM hold_sessions(session_ids, false);
    change := change_now();
    late := late_places(use_cases, subjects, items, times);
    WITH inserted AS (
        INSERT INTO interactions (sequence, interaction_id, use_case, subject_id, item_id, event_type,
            event_time, receive_time, hides, session_id, rank, score, method, release)
        SELECT (change << 9) | (sent.place - 1), sent.id, sent.use_case, sent.subject_id, sent.item_id,
            sent.event_type, sent.event_time, received, sent.hides, nullif(sent.session_id, ''),
            CASE WHEN s.session_id IS NOT NULL THEN coalesce(s.rank, 0) END,
            s.scores[s.rank], nullif(s.methods[s.rank], ''), s.release
        FROM unnest(ids, use_cases, subjects, items, events, times, session_ids, hiding) WITH ORDINALITY
            AS sent (id, use_case, subject_id, item_id, event_type, event_time, session_id, hides, place)
        LEFT JOIN LATERAL (
            SELECT l.session_id, l.scores, l.methods, l.release,
                array_position(l.item_ids, sent.item_id) AS rank
            FROM sessions l WHERE l.session_id = nullif(sent.session_id, '')
                AND l.use_case = sent.use_case AND l.subject_id = sent.subject_id
            OFFSET 0
        ) AS s ON true
        WHERE NOT sent.place = ANY (late)
        ORDER BY sent.id COLLATE "C"
        ON CONFLICT (interaction_id) DO NOTHING
        RETURNING sequence
    )
    SELECT coalesce(array_agg((sequence & 511)::int + 1), '{}') INTO stored FROM inserted;
    IF cardinality(stored) < cardinality(ids) THEN
        SELECT array_agg(place) INTO repeated
        FROM generate_series(1, cardinality(ids)) AS place WHERE NOT place = ANY (stored);
        IF cardinality(stored) = 0 THEN
            RETURN ids;
        END IF;
    END IF;

    INSERT INTO item_stats AS kept (use_case, item_id, views, interactions, decayed_weight, decay_time,
        half_life_seconds, change_sequence)
    SELECT sent.use_case, sent.item_id, sum(sent.view), sum(sent.counted),
        sum(sent.weight * halved(sent.event_time, sent.latest, sent.half_life)),
        max(sent.latest), max(sent.half_life), change
    FROM (
        SELECT *, max(event_time) OVER (PARTITION BY use_case, item_id) AS latest
        FROM unnest(use_cases, items, times, viewing, counting, weights, half_lives) WITH ORDINALITY
            AS each (use_case, item_id, event_time, view, counted, weight, half_life, place)
        WHERE (view > 0 OR counted > 0) AND NOT place = ANY (repeated)
    ) AS sent
    GROUP BY sent.use_case, sent.item_id
    ORDER BY sent.use_case COLLATE "C", sent.item_id COLLATE "C"
    ON CONFLICT (use_case, item_id) DO UPDATE SET
        views = kept.views + excluded.views,
        interactions = kept.interactions + excluded.interactions,
        decayed_weight =
            kept.decayed_weight * halved(kept.decay_time, greatest(kept.decay_time, excluded.decay_time),
                excluded.half_life_seconds)
            + excluded.decayed_weight * halved(excluded.decay_time,
                greatest(kept.decay_time, excluded.decay_time), excluded.half_life_seconds),
        decay_time = greatest(kept.decay_time, excluded.decay_time),
        half_life_seconds = excluded.half_life_seconds,
        change_sequence = excluded.change_sequence;

    INSERT INTO subject_counts AS kept (use_case, subject_id, interactions)
    SELECT sent.use_case, sent.subject_id, count(*)
    FROM unnest(use_cases, subjects) WITH ORDINALITY AS sent (use_case, subject_id, place)
    WHERE NOT place = ANY (repeated)
    GROUP BY sent.use_case, sent.subject_id
    ORDER BY sent.use_case COLLATE "C", sent.subject_id COLLATE "C"
    ON CONFLICT (use_case, subject_id) DO UPDATE SET interactions = kept.interactions + excluded.interactions;

    IF 0 < ANY (match_roles) THEN
        PERFORM note_matches(match_use_cases, subjects, items, times, match_roles, repeated, change, received);
    END IF;

    RETURN ARRAY(
        SELECT id FROM unnest(ids) WITH ORDINALITY AS sent (id, place)
        WHERE place = ANY (repeated) ORDER BY place
    );
END
$$;

-- All that retrieval needs of a subject, in one go. Long columns come joined by the unit separator, which no
-- id holds (ids have no control characters): splitting text is ten times faster than reading an array.
-- Event times are microseconds since 1970.
CREATE OR REPLACE FUNCTION subject_state(
    of_use_case text, of_kind text, of_subject text, most_events int, most_hidden int,
    OUT features jsonb, OUT active boolean, OUT create_time timestamptz, OUT update_time timestamptz,
    OUT change_sequence bigint, OUT interaction_count bigint,
    OUT event_items text, OUT event_types text, OUT event_times text, OUT hidden text,
    OUT factor_features text[], OUT factor_values text[], OUT factors float8[], OUT as_of timestamptz[]
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT e.features || coalesce(e.derived, '{}'), e.active, e.create_time, e.update_time, e.change_sequence
    INTO features, active, create_time, update_time, change_sequence
    FROM entities e WHERE e.kind = of_kind AND e.id = of_subject;

    SELECT c.interactions INTO interaction_count
    FROM subject_counts c WHERE c.use_case = of_use_case AND c.subject_id = of_subject;
    IF interaction_count IS NULL THEN
        interaction_count := 0;
        RETURN;
    END IF;

    -- A dislike's reason follows its type, behind a record separator.
    SELECT string_agg(r.item_id, E'\x1f'),
        string_agg(CASE WHEN r.event_type = 'dislike' THEN r.event_type || coalesce(E'\x1e' || (
            SELECT d.reason FROM dislikes d WHERE d.use_case = of_use_case AND d.sequence = r.sequence), '')
            ELSE r.event_type END, E'\x1f'),
        string_agg(((date_part('epoch', r.event_time) * 1e6)::bigint)::text, E'\x1f')
    INTO event_items, event_types, event_times
    FROM (
        SELECT i.item_id, i.event_type, i.event_time, i.sequence FROM interactions i
        WHERE i.use_case = of_use_case AND i.subject_id = of_subject
        ORDER BY i.event_time DESC, i.sequence DESC LIMIT most_events
    ) AS r;

    SELECT string_agg(r.item_id, E'\x1f') INTO hidden
    FROM (
        SELECT i.item_id FROM interactions i
        WHERE i.use_case = of_use_case AND i.subject_id = of_subject AND i.hides
        ORDER BY i.event_time DESC, i.sequence DESC LIMIT most_hidden
    ) AS r;

    SELECT array_agg(w.feature), array_agg(w.value), array_agg(w.factor), array_agg(w.as_of)
    INTO factor_features, factor_values, factors, as_of
    FROM weight_factors w WHERE w.use_case = of_use_case AND w.subject_id = of_subject;
END
$$;
