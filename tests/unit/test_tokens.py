"""Tokens: kept as hashes, read from TOML, made by a command."""

from __future__ import annotations

import re
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from matchloop.__main__ import app
from matchloop.catalog.v1 import scope_pb2
from matchloop.rpc.tokens import Holder, Scope, entry, hash_of, new_token, parse_tokens, read_tokens

READ = frozenset({Scope.READ})
NEXT_YEAR = datetime(2027, 6, 30, 12, tzinfo=UTC)


def test_scopes_equal_the_contract_s() -> None:
    names = {name.removeprefix("SCOPE_") for name in scope_pb2.Scope.keys()}  # noqa: SIM118 - no mapping
    assert {scope.name for scope in Scope} == names - {"UNSPECIFIED"}


def test_an_entry_lets_its_token_in_and_does_not_tell_it() -> None:
    token, other = new_token(), new_token()
    assert token != other
    assert re.fullmatch(r"matchloop_[\w-]{43}", token)
    lines = entry("shop", token, frozenset({Scope.FEEDBACK, Scope.READ}), NEXT_YEAR)
    assert token not in lines
    (found,) = parse_tokens(lines).items()
    holder = Holder("shop", frozenset({Scope.READ, Scope.FEEDBACK}), NEXT_YEAR.timestamp())
    assert found == (hash_of(token), holder)


def test_a_client_may_have_several_tokens_and_bounds_of_its_own() -> None:
    first = entry("shop", "one", READ, None) + "rate = 5.5\nburst = 9\n"
    found = parse_tokens(first + entry("shop", "two", READ, None))
    assert found[hash_of("one")] == Holder("shop", READ, None, 5.5, 9)
    assert found[hash_of("two")] == Holder("shop", READ)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[[token]]\nname = 'shop'\n", "token.0.sha256: Field required; token.0.scopes: Field required"),
        ("[[tokens]]\n", "tokens: Extra inputs are not permitted"),
        (entry("shop", "a", READ, None) + "scope = 'admin'\n", "token.0.scope: Extra inputs"),
        (entry("shop", "a", READ, None).replace('["read"]', "[]"), "token.0.scopes"),
        (entry("shop", "a", READ, None).replace('"read"', '"write"'), "token.0.scopes.0: Input should be"),
        (entry("shop", "a", READ, None) + "expires = 2027-01-01T00:00:00\n", "token.0.expires"),
        (entry("shop", "a", READ, None) * 2, "token.1: another entry is of the same token"),
        ("[[token]", "Expected ']]'"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_shown(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(fault)) as raised:
        read_tokens(file)
    assert str(file) in str(raised.value)
    assert hash_of("a") not in str(raised.value)


def test_the_command_makes_a_token_that_the_file_lets_in(tmp_path: Path) -> None:
    tokens, out = tmp_path / "tokens.toml", tmp_path / "shop.token"
    run = CliRunner().invoke
    printed = run(app, ["token", "shop", "--scope", "read", "--days", "90"])
    token, lines = printed.stdout.split("\n\n")
    assert list(parse_tokens(lines)) == [hash_of(token)]
    for name, *scopes in (("shop", "read", "feedback"), ("operator", "admin")):
        asked = [argument for scope in scopes for argument in ("--scope", scope)]
        secret = out.with_stem(name)
        made = run(app, ["token", name, *asked, "--tokens", str(tokens), "--out", str(secret)])
        assert (made.exit_code, made.stdout) == (0, "")
        assert read_tokens(tokens)[hash_of(secret.read_text().strip())].name == name
    assert [stat.S_IMODE(file.stat().st_mode) for file in (tokens, out)] == [0o600, 0o600]
    shown = run(app, ["tokens", str(tokens)]).stdout
    assert all(word in shown for word in ("shop", "feedback, read", "operator", "for ever"))
    assert out.read_text().strip() not in shown


def test_the_command_changes_nothing_that_it_cannot_read(tmp_path: Path) -> None:
    tokens, out = tmp_path / "tokens.toml", tmp_path / "shop.token"
    tokens.write_text("[[token]\n")
    arguments = ["token", "shop", "--scope", "read", "--tokens", str(tokens)]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert tokens.read_text() == "[[token]\n"
    out.write_text("another's")
    assert CliRunner().invoke(app, [*arguments, "--out", str(out)]).exit_code == 1
    assert out.read_text() == "another's"
    assert CliRunner().invoke(app, ["token", "Not A Name", "--scope", "read"]).exit_code == 1
    assert CliRunner().invoke(app, ["token", "shop"]).exit_code == 2  # a scope is needed
