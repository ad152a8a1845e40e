"""What operators of any deployable need: ``python -m matchloop token``, ``python -m matchloop tokens``."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from matchloop.rpc.tokens import Scope, entry, new_token, read_tokens

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Of the client: a-z, 0-9, - and _.")],
    scope: Annotated[list[Scope], typer.Option(help="What it allows; may be repeated.")],
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="How long it is valid. Left out: for ever.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Tokens file that gets the entry. Left out: it is printed.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New file for the token itself. Left out: it is printed, this once.")
    ] = None,
) -> None:
    """Make a token for a client, and the entry of the tokens file that lets it in."""
    made = new_token()
    expires = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    try:
        lines = entry(name, made, frozenset(scope), expires)
        if out is not None:
            _write(out, made + "\n", os.O_EXCL)
        if tokens is not None:
            _append(tokens, lines)
    except (OSError, ValueError) as error:
        _fail(str(error))
    if out is None:
        sys.stdout.write(f"{made}\n")
    if tokens is None:
        sys.stdout.write(f"\n{lines}")


@app.command()
def tokens(file: Annotated[Path, typer.Argument(help="Tokens file.")]) -> None:
    """Check a tokens file and show who may do what until when."""
    try:
        holders = read_tokens(file)
    except (OSError, ValueError) as error:
        _fail(str(error))
    table = Table("client", "scopes", "valid until", "calls per second", "hash begins")
    now = datetime.now(UTC).timestamp()
    for hash_, holder in holders.items():
        until = "for ever"
        if holder.expires is not None:
            until = datetime.fromtimestamp(holder.expires, UTC).isoformat(timespec="minutes")
            until += " (expired)" if holder.expires <= now else ""
        rate = f"{holder.rate:g}" if holder.rate is not None else "as the server says"
        table.add_row(holder.name, ", ".join(sorted(holder.scopes)), until, rate, hash_[:8])
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _append(file: Path, lines: str) -> None:
    """Add an entry in one step: a server that reads meanwhile sees the file before or after."""
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if before:
        read_tokens(file)
    whole = file.with_name(file.name + ".new")
    _write(whole, f"{before.rstrip()}\n\n{lines}".lstrip(), os.O_TRUNC)
    if before:
        whole.chmod(file.stat().st_mode & 0o777)
    whole.replace(file)


def _write(file: Path, content: str, how: int) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | how, 0o600), "w", encoding="utf-8") as target:
        target.write(content)


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
