"""A schema version goes in under the release that runs: it only adds, and holds nobody up.

What the running release may still use goes with a later version, which says so: ``contracts = "0007"`` names
the version since which no release has used it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from alembic.script import Script, ScriptDirectory

from feedback_svc.migrate import MIGRATIONS

BEFORE_THE_RULE = ("0001", "0002", "0003", "0004")
"""Versions that went in before anything was released."""

NAME = r"(?:IF (?:NOT )?EXISTS )?(?:ONLY )?(\w+)"
TAKES_AWAY = {
    "drops what the running release may use": r"\bDROP (?:TABLE|VIEW|FUNCTION|TYPE|COLUMN)\b",
    "renames what the running release knows": r"\bRENAME\b",
    "changes a column's type, which rewrites the table": r"\bALTER COLUMN \w+ (?:SET DATA )?TYPE\b",
    "demands what the running release may not write": r"\bSET NOT NULL\b",
}
HOLDS_UP = {
    "adds a column that the running release cannot fill": (
        r"\bADD COLUMN (?:(?!DEFAULT)[^,;])*NOT NULL(?:(?!DEFAULT)[^,;])*[,;]"
    ),
    "checks every row under a lock: add it NOT VALID, then VALIDATE": (
        r"\bADD CONSTRAINT (?:(?!NOT VALID)[^;])*;"
    ),
}


def faults(statements: str, *, contracts: bool = False) -> list[str]:
    """Return what speaks against running these statements under load.

    Parameters
    ----------
    contracts
        Whether the version says that no release uses what it takes away.
    """
    plain = re.sub(r"\$\$.*?\$\$", "", re.sub(r"--[^\n]*", "", statements), flags=re.DOTALL)
    plain = re.sub(r"\s+", " ", plain) + ";"
    found = [why for why, what in HOLDS_UP.items() if re.search(what, plain, re.IGNORECASE)]
    if not contracts:
        found += [why for why, what in TAKES_AWAY.items() if re.search(what, plain, re.IGNORECASE)]
    made = set(re.findall(rf"\bCREATE TABLE {NAME}", plain, re.IGNORECASE))
    indexed = re.findall(rf"\bCREATE (?:UNIQUE )?INDEX {NAME} ON (\w+)", plain, re.IGNORECASE)
    return found + [
        f"builds {name} while writers of {table} wait: steps.build_index"
        for name, table in indexed
        if table not in made
    ]


def upgrade_of(script: Script) -> str:
    """Return all that a version's upgrade is made of: its files of SQL, and every text in its code."""
    file = Path(script.path)
    parts = sorted((file.parent / script.revision).glob("*.sql"))
    texts = [each.read_text(encoding="utf-8") for each in parts if not each.name.endswith(".down.sql")]
    for part in ast.parse(file.read_text(encoding="utf-8")).body:
        if not (isinstance(part, ast.FunctionDef) and part.name == "downgrade"):
            constants = [each.value for each in ast.walk(part) if isinstance(each, ast.Constant)]
            texts += [value for value in constants if isinstance(value, str)]
    return ";\n".join(texts)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("ALTER TABLE sessions ADD COLUMN page int;", ""),
        ("ALTER TABLE sessions ADD COLUMN page int NOT NULL DEFAULT 0;", ""),
        ("CREATE TABLE pages (page int NOT NULL); CREATE UNIQUE INDEX by_page ON pages (page);", ""),
        ("ALTER TABLE pages ADD CONSTRAINT positive CHECK (page > 0) NOT VALID;", ""),
        ("ALTER TABLE pages VALIDATE CONSTRAINT positive;", ""),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DROP TABLE looks_bad $$;", ""),
        ("-- DROP TABLE sessions\nSELECT 1", ""),
        ("ALTER TABLE sessions ADD COLUMN page int NOT NULL;", "cannot fill"),
        ("ALTER TABLE sessions ADD COLUMN a int DEFAULT 0, ADD COLUMN b int NOT NULL", "cannot fill"),
        ("ALTER TABLE sessions DROP COLUMN arm;", "drops"),
        ("drop function\n record_sessions", "drops"),
        ("ALTER TABLE sessions RENAME COLUMN arm TO side", "renames"),
        ("ALTER TABLE sessions ALTER COLUMN arm TYPE int", "type"),
        ("ALTER TABLE sessions ALTER COLUMN propensities SET NOT NULL", "demands"),
        ("CREATE INDEX IF NOT EXISTS by_arm ON sessions (arm)", "build_index"),
        ("ALTER TABLE sessions ADD CONSTRAINT named CHECK (arm <> '');", "NOT VALID"),
    ],
)
def test_the_rule_tells_what_is_safe(statements: str, expected: str) -> None:
    found = "; ".join(faults(statements))
    assert (expected in found) if expected else not found


def test_what_no_release_uses_may_go() -> None:
    assert faults("ALTER TABLE sessions DROP COLUMN arm", contracts=True) == []
    assert faults("CREATE INDEX by_arm ON sessions (arm)", contracts=True) != []


def test_every_version_can_go_in_under_the_running_release() -> None:
    directory = ScriptDirectory(str(MIGRATIONS))
    scripts = {script.revision: script for script in directory.walk_revisions()}
    assert set(BEFORE_THE_RULE) <= set(scripts)
    assert faults(upgrade_of(scripts["0003"])), "what is known to hold writers up is not seen"
    for revision, script in scripts.items():
        if revision not in BEFORE_THE_RULE:
            contracts = getattr(script.module, "contracts", None)
            assert contracts is None or contracts in scripts, f"{revision}: no version {contracts}"
            assert faults(upgrade_of(script), contracts=contracts is not None) == [], revision
