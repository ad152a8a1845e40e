-- The match ledger: what one side wants of the other, in both directions of a forward use case.
--
-- Only earliest and latest times are kept, so neither the order of arrival nor replays change a row. What
-- follows from them is generated: no statement can write a state that its times do not have.
CREATE TABLE matches (
    use_case text COLLATE "C" NOT NULL,
    subject_id text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    subject_first timestamptz,
    subject_last timestamptz,
    subject_rejected timestamptz,
    item_first timestamptz,
    item_last timestamptz,
    item_rejected timestamptz,
    close_time timestamptz GENERATED ALWAYS AS (least(
        CASE WHEN subject_last IS NULL OR subject_rejected > subject_last THEN subject_rejected END,
        CASE WHEN item_last IS NULL OR item_rejected > item_last THEN item_rejected END)) STORED,
    state text COLLATE "C" NOT NULL GENERATED ALWAYS AS (CASE
        WHEN (subject_rejected IS NOT NULL AND (subject_last IS NULL OR subject_rejected > subject_last))
            OR (item_rejected IS NOT NULL AND (item_last IS NULL OR item_rejected > item_last))
            THEN 'closed'
        WHEN subject_first IS NOT NULL AND item_first IS NOT NULL THEN 'reciprocated'
        ELSE 'one_sided' END) STORED,
    change_time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    -- Also lists by subject: a subject's matches are few enough to sort.
    PRIMARY KEY (use_case, subject_id, item_id)
) WITH (fillfactor = 80);
-- Each lists by latest change without sorting: those of an item (a startup may have very many), and those in
-- a state; all of them are those of the three states together. No more indexes: every change of a match
-- writes to each.
CREATE INDEX matches_by_item ON matches (use_case, item_id, sequence);
CREATE INDEX matches_by_state ON matches (use_case, state, sequence);

-- Adds reactions (at most 512 rows come of them) to the ledger. A role says who speaks, and what:
-- 1 the subject wants, 2 the subject rejects, 3 the item wants, 4 the item rejects; 0 says nothing.
-- `subjects` and `items` are the reactions' own: turned where the item speaks. What adds nothing new leaves
-- a match as it is, also its place in the order of changes.
CREATE FUNCTION note_matches(
    use_cases text[], subjects text[], items text[], times timestamptz[], roles int[], skipped int[],
    change bigint, received timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO matches AS kept (use_case, subject_id, item_id, subject_first, subject_last,
        subject_rejected, item_first, item_last, item_rejected, change_time, sequence)
    SELECT said.use_case, said.subject_id, said.item_id,
        min(said.time) FILTER (WHERE said.role = 1), max(said.time) FILTER (WHERE said.role = 1),
        max(said.time) FILTER (WHERE said.role = 2),
        min(said.time) FILTER (WHERE said.role = 3), max(said.time) FILTER (WHERE said.role = 3),
        max(said.time) FILTER (WHERE said.role = 4),
        received,
        (change << 9) | (row_number() OVER (ORDER BY said.use_case, said.subject_id, said.item_id) - 1)
    FROM (
        SELECT sent.use_case COLLATE "C" AS use_case, sent.time, sent.role,
            CASE WHEN sent.role > 2 THEN sent.item_id ELSE sent.subject_id END COLLATE "C" AS subject_id,
            CASE WHEN sent.role > 2 THEN sent.subject_id ELSE sent.item_id END COLLATE "C" AS item_id
        FROM unnest(use_cases, subjects, items, times, roles) WITH ORDINALITY
            AS sent (use_case, subject_id, item_id, time, role, place)
        WHERE sent.role > 0 AND NOT sent.place = ANY (skipped)
    ) AS said
    GROUP BY said.use_case, said.subject_id, said.item_id
    ORDER BY said.use_case, said.subject_id, said.item_id
    ON CONFLICT (use_case, subject_id, item_id) DO UPDATE SET
        subject_first = least(kept.subject_first, excluded.subject_first),
        subject_last = greatest(kept.subject_last, excluded.subject_last),
        subject_rejected = greatest(kept.subject_rejected, excluded.subject_rejected),
        item_first = least(kept.item_first, excluded.item_first),
        item_last = greatest(kept.item_last, excluded.item_last),
        item_rejected = greatest(kept.item_rejected, excluded.item_rejected),
        change_time = greatest(kept.change_time, excluded.change_time),
        -- A transaction that began earlier may come later: no match moves back in the order of changes.
        sequence = greatest(kept.sequence, excluded.sequence)
    WHERE excluded.subject_first < kept.subject_first OR excluded.subject_last > kept.subject_last
        OR excluded.item_first < kept.item_first OR excluded.item_last > kept.item_last
        OR excluded.subject_rejected > kept.subject_rejected OR excluded.item_rejected > kept.item_rejected
        OR (kept.subject_last IS NULL AND excluded.subject_last IS NOT NULL)
        OR (kept.item_last IS NULL AND excluded.item_last IS NOT NULL)
        OR (kept.subject_rejected IS NULL AND excluded.subject_rejected IS NOT NULL)
        OR (kept.item_rejected IS NULL AND excluded.item_rejected IS NOT NULL);
END
$$;

-- Its successor in functions.sql takes two columns more; left out, as by a service not yet restarted, they
-- say nothing.
DROP FUNCTION record_interactions(text[], text[], text[], text[], text[], timestamptz[], text[], boolean[],
    int[], int[], float8[], float8[], timestamptz);
