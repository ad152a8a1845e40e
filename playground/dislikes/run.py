"""``python -m playground dislikes``: every reason played on services of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback_svc.dislikes import HALF_LIFE
from feedback_svc.migrate import migrate
from matchloop.errors import InvalidInput
from matchloop.observe.logs import configure_logging
from matchloop.rpc.validation import utc_now
from matchloop.usecase import load_use_cases
from playground.clocked import ClockedServices, SettableClock
from playground.dislikes.catalogues import CATALOGUES, catalogue_of
from playground.dislikes.story import Teller
from playground.dislikes.tables import print_story
from playground.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from playground.dislikes.catalogues import Catalogue


def run_dislikes(*, use_cases: Sequence[str], reasons: Sequence[str], folder: Path, console: Console) -> None:
    """Start PostgreSQL and the services on a settable clock, and tell the story of each reason.

    Parameters
    ----------
    use_cases
        Those of `CATALOGUES` when empty.
    reasons
        All of each use case when empty.
    folder
        For the database; every user may pass it.

    Raises
    ------
    InvalidInput
        For a use case without a catalogue, or a reason that none of the use cases has.
    """
    catalogues = [catalogue_of(use_case) for use_case in use_cases or CATALOGUES]
    _check(reasons, catalogues)
    configure_logging("ERROR", service="playground")
    postgres = EmbeddedPostgres(folder / "postgres", {"fsync": "off"})
    try:
        with console.status("starting PostgreSQL and the services"):
            postgres.start()
            migrate(postgres.url())
        with ClockedServices(postgres.url(), folder, SettableClock(utc_now())) as services:
            for catalogue in catalogues:
                teller = Teller(services, catalogue)
                teller.load()
                for reason, what in teller.use_case.dislikes.items():
                    if not reasons or reason in reasons:
                        story = teller.tell(reason, HALF_LIFE)
                        print_story(console, story, catalogue, what, teller.most_alike(story))
    finally:
        postgres.stop(at_once=True)


def _check(reasons: Sequence[str], catalogues: Sequence[Catalogue]) -> None:
    use_cases = load_use_cases()
    known = {reason for each in catalogues for reason in use_cases[each.use_case].dislikes}
    if unknown := sorted(set(reasons) - known):
        raise InvalidInput(f"no such reason: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
