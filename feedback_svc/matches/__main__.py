"""Make the match ledger again from the stored interactions: ``python -m feedback_svc.matches``.

For a database that was filled before the ledger was kept, and after the strong events of a use case or its
reverse were changed. It may be run while serving, broken off, and run again: the same ledger comes of it.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from feedback_svc.command import run, told
from feedback_svc.matches.ledger import MatchRole, roles_of
from feedback_svc.settings import FeedbackSettings
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.postgres.matches import count_interactions, drop_matches, note_stored
from matchloop.errors import InvalidInput, Violation
from matchloop.rpc.settings import read_settings
from matchloop.rpc.validation import utc_now
from matchloop.usecase import UseCases, load_use_cases


def directions(use_cases: UseCases, only: list[str]) -> list[tuple[str, dict[str, MatchRole]]]:
    """Return the use cases to go through, forward before reverse, and what their events say.

    Raises
    ------
    InvalidInput
        When `only` names what is no forward use case with a reverse.
    """
    forward = [name for name in use_cases if use_cases.reverse_of(name)]
    unknown = [name for name in only if name not in forward]
    if unknown:
        raise InvalidInput.of(
            [Violation("USE_CASES", f"`{name}` is not one of {', '.join(forward)}") for name in unknown]
        )
    found = []
    for name in only or forward:
        reverse = use_cases.reverse_of(name)
        assert reverse is not None
        found.append((name, dict(roles_of(use_cases[name], reverse))))
        found.append((reverse.id, dict(roles_of(reverse, None))))
    return found


def rebuild(database: Database, use_cases: UseCases, only: list[str], *, anew: bool) -> None:
    """Go through the stored interactions, one use case at a time, with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    chosen = directions(use_cases, only)
    with Progress(*columns) as progress:
        for use_case, _ in chosen if anew else ():
            if use_cases.reverse_of(use_case):
                drop_matches(database, use_case)
        for use_case, roles in chosen:
            task = progress.add_task(use_case, total=count_interactions(database, use_case))
            for done in note_stored(database, use_case, roles, now=utc_now()):
                progress.advance(task, done)


def main(
    use_cases: Annotated[
        list[str] | None, typer.Argument(help="Forward use cases; left out: all that have a reverse.")
    ] = None,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew",
            help="Delete what the ledger holds first: events that no longer count go, but so does what was"
            " said in interactions that are no longer kept.",
        ),
    ] = False,
) -> None:
    """Make the match ledger of the database named by FEEDBACK_DATABASE_URL again."""
    with told():
        settings = read_settings(FeedbackSettings)
        loaded = load_use_cases(*settings.use_case_folders)
        database = Database(settings.database_url, pool_size=1)
        try:
            rebuild(database, loaded, use_cases or [], anew=anew)
        finally:
            database.close()


if __name__ == "__main__":
    run(main, "matches")
