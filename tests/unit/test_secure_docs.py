"""docs/secure.md names the settings there are, and its tokens file is one."""

from __future__ import annotations

import re
from pathlib import Path

from matchloop.rpc.credentials import ClientSettings
from matchloop.rpc.guard import scopes_of
from matchloop.rpc.settings import ServerSettings
from matchloop.rpc.tokens import Scope, parse_tokens
from tests.unit.test_scopes import services

PAGE = (Path(__file__).parents[2] / "docs" / "secure.md").read_text(encoding="utf-8")


def test_the_settings_of_the_page_are_those_there_are() -> None:
    named = {name.lower() for name in re.findall(r"<PREFIX>_([A-Z_]+)", PAGE)}
    assert named <= set(ServerSettings.model_fields)
    security = {
        name for name in ServerSettings.model_fields if re.match("tls|token|plaintext|rate|burst", name)
    }
    assert security <= named
    assert {name.lower() for name in re.findall(r"MATCHLOOP_CLIENT_([A-Z_]+)`", PAGE)} == set(
        ClientSettings.model_fields
    )


def test_the_tokens_file_of_the_page_is_one() -> None:
    (block,) = re.findall(r"<!-- file: tokens.toml -->\n```toml\n(.*?)```", PAGE, re.DOTALL)
    (holder,) = parse_tokens(block).values()
    assert (holder.name, holder.scopes) == ("shop", frozenset({Scope.READ, Scope.FEEDBACK}))
    assert (holder.rate, holder.burst) == (200.0, 400)


def test_the_scopes_of_the_page_are_the_contract_s() -> None:
    rows = dict(re.findall(r"^\| `(read|feedback|catalogue|admin)` \| ([^|]*) \|", PAGE, re.MULTILINE))
    assert set(rows) == {str(scope) for scope in Scope}
    for method, scope in scopes_of(services()).items():
        name = method.rpartition("/")[2]
        if scope in {Scope.FEEDBACK, Scope.CATALOGUE}:
            assert name in rows[scope]
        elif name in " ".join(rows.values()):
            assert name in rows[str(scope)]
