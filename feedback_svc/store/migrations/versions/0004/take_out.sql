-- Takes items out of lists; a list left empty goes.
CREATE OR REPLACE FUNCTION take_out(ids text[], gone text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sessions s SET
        item_ids = ARRAY(
            SELECT item FROM unnest(s.item_ids) WITH ORDINALITY AS u (item, place)
            WHERE NOT item = ANY (gone) ORDER BY place),
        scores = ARRAY(
            SELECT s.scores[place] FROM unnest(s.item_ids) WITH ORDINALITY AS u (item, place)
            WHERE NOT item = ANY (gone) ORDER BY place),
        methods = ARRAY(
            SELECT s.methods[place] FROM unnest(s.item_ids) WITH ORDINALITY AS u (item, place)
            WHERE NOT item = ANY (gone) ORDER BY place),
        propensities = CASE WHEN s.propensities IS NOT NULL THEN ARRAY(
            SELECT s.propensities[place] FROM unnest(s.item_ids) WITH ORDINALITY AS u (item, place)
            WHERE NOT item = ANY (gone) ORDER BY place) END,
        retrieval_scores = CASE WHEN s.retrieval_scores IS NOT NULL AND EXISTS (
            SELECT FROM unnest(s.item_ids) WITH ORDINALITY AS u (item, place)
            WHERE NOT item = ANY (gone) AND s.retrieval_scores[place] IS NOT NULL
        ) THEN ARRAY(
            SELECT s.retrieval_scores[place] FROM unnest(s.item_ids) WITH ORDINALITY AS u (item, place)
            WHERE NOT item = ANY (gone) ORDER BY place) END,
        feature_values = ARRAY(
            SELECT value FROM unnest(s.feature_values) WITH ORDINALITY AS u (value, at)
            WHERE NOT s.item_ids[(at - 1) / greatest(cardinality(s.feature_names), 1) + 1] = ANY (gone)
            ORDER BY at)
    WHERE s.session_id = ANY (ids);
    DELETE FROM sessions WHERE session_id = ANY (ids) AND cardinality(item_ids) = 0;
END
$$;
