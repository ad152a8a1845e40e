DROP FUNCTION erase_rest, erase_sessions, erase_interactions, await_writers, entomb, without_erased, take_out,
    late_places, erased_hash;
DROP INDEX dislikes_by_item;
DROP INDEX sessions_by_item;
DROP TABLE use_case_kinds;
DROP TABLE tombstones;
