"""What the command lines have in common: faults told in a line each, not as a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from sqlalchemy.exc import DBAPIError

from matchloop.errors import InvalidInput, MatchloopError
from matchloop.rpc.job import job


def run(main: Callable[..., None], name: str) -> None:
    """Run a command as a job of its own (`matchloop.rpc.job`)."""
    try:
        with job("feedback_svc", name):
            typer.run(main)
    except InvalidInput as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(2)


@contextmanager
def told() -> Iterator[None]:
    """End with code 2 for faulty settings, 1 for what else is known to go wrong."""
    try:
        yield
    except InvalidInput as error:
        for violation in error.violations:
            typer.echo(f"{violation.field}: {violation.description}", err=True)
        raise typer.Exit(2) from None
    except MatchloopError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(1) from None
    except DBAPIError as error:
        typer.echo(_without_values(error), err=True)
        raise typer.Exit(1) from None


def _without_values(error: DBAPIError) -> str:
    """Return PostgreSQL's message without its details, which quote rows."""
    told = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return str(told or error.orig).strip()
