-- An interaction and its session may be written at the same time, neither seeing the other. Interactions
-- hold their session's stripe shared, sessions hold it alone: whoever comes second sees the first.
CREATE OR REPLACE FUNCTION hold_sessions(ids text[], alone boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    stripes int[];
BEGIN
    IF cardinality(ids) = 1 THEN  -- an expression; sorting one stripe would be a query
        stripes := CASE WHEN ids[1] = '' THEN '{}' ELSE ARRAY[hashtext(ids[1]) & 255] END;
    ELSE
        stripes := ARRAY(
            SELECT DISTINCT hashtext(id) & 255 AS stripe FROM unnest(ids) AS id WHERE id <> '' ORDER BY stripe
        );
    END IF;
    IF alone THEN
        PERFORM pg_advisory_xact_lock(74001, stripe) FROM unnest(stripes) AS stripe;
    ELSE
        PERFORM pg_advisory_xact_lock_shared(74001, stripe) FROM unnest(stripes) AS stripe;
    END IF;
END
$$;
