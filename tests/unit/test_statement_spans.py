"""Statements in a trace: named after verb and tables, by closed sets alone."""

import pytest

from feedback_svc.store.postgres.record import RECORD_SESSIONS, SUBJECT_STATE
from feedback_svc.store.postgres.statement_spans import statement_name


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        (SUBJECT_STATE, "SELECT subject_state"),
        (RECORD_SESSIONS, "SELECT record_sessions"),
        ("SELECT record_interactions(%s::text[])", "SELECT record_interactions"),
        ("INSERT INTO entities (kind) VALUES ('it''s FROM secret')", "INSERT entities"),
        ("DELETE FROM acts WHERE a = 'SECRET'", "DELETE acts"),
        ("SELECT a FROM b JOIN c ON d JOIN e ON f JOIN g ON h", "SELECT b c e"),
        ("SET LOCAL work_mem = '64MB'", "SET"),
        ("  ", "EMPTY"),
    ],
)
def test_a_statement_is_named_after_what_it_does_to_what(sql: str, name: str) -> None:
    assert statement_name(sql) == name
