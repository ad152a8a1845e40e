-- The first migration's function, without the ledger, is back by now.
DROP FUNCTION record_interactions(text[], text[], text[], text[], text[], timestamptz[], text[], boolean[],
    int[], int[], float8[], float8[], timestamptz, text[], int[]);
DROP FUNCTION note_matches(text[], text[], text[], timestamptz[], int[], int[], bigint, timestamptz);
DROP TABLE matches;
