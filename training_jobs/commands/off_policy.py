"""``off-policy``: what a release's order of the lists that chance varied would have brought."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from matchloop.errors import NotFound, Reason, TooFewExamples
from matchloop.release import CHAMPION, Manifest, MlflowRegistry
from matchloop.rerank.scorer import Ranker
from matchloop.snapshot import read_snapshot
from matchloop.usecase import UseCase, load_use_cases
from training_jobs.champion import champion_ranker
from training_jobs.commands.console import console
from training_jobs.config import load_config
from training_jobs.datasets import open_tables
from training_jobs.evaluate.list_value import ListValue, Reward, list_value
from training_jobs.evaluate.logged import ExploredLists, explored_lists
from training_jobs.evaluate.off_policy import Settings
from training_jobs.promotion import find_release

if TYPE_CHECKING:
    from training_jobs.evaluate.bootstrap import Interval
    from training_jobs.evaluate.support import Support


def off_policy(
    use_case: Annotated[str, typer.Argument(help="Id of a use case, e.g. investor_startup.")],
    snapshot: Annotated[Path, typer.Option(help="Folder of a snapshot, whose lists are evidence.")],
    release: Annotated[str, typer.Option(help="An alias, a version or a release's id.")] = CHAMPION,
    over: Annotated[
        str | None, typer.Option(help="Alias or id of the release to compare with; else: what was shown.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Only lists served later, UTC. Left out: all, those it may have learned from too."),
    ] = None,
    clip: Annotated[
        float | None, typer.Option(help="Largest weight; lower values vary less and say too little.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for fetched releases.")] = Path("var/training"),
    registry: Annotated[
        str, typer.Option(envvar="MATCHLOOP_REGISTRY_URI", help="MLflow: sqlite:///FILE or a server's URL.")
    ] = "sqlite:///var/mlflow.db",
    config: Annotated[
        str, typer.Option(help="default, fast, deep, or the path of a .toml file.")
    ] = "default",
    use_cases: Annotated[Path | None, typer.Option(help="Folder of further use cases in TOML.")] = None,
) -> None:
    """Estimate what a list would bring in a release's order, from lists that chance varied.

    Exit code 2 when there is no such list, or the release has no ranker.
    """
    declared = load_use_cases(*([use_cases] if use_cases else []))[use_case]
    known, settings = MlflowRegistry(registry), load_config(config)
    after = since.replace(tzinfo=UTC) if since is not None else None
    tables = open_tables(read_snapshot(snapshot))
    lists = explored_lists(tables, declared, settings.dataset, after=after)
    if not len(lists):
        raise TooFewExamples(
            f"{use_case}: no list in {snapshot} is old enough, with features logged and ranks left to chance "
            f"({lists.left_out} log propensities that are no blocks)"
        )
    found = find_release(known, use_case, release)
    folder = known.fetch(found, work / use_case / "fetched")
    mine = ranker_of(folder, found.release, declared)
    rival = None
    if over is not None:
        other = find_release(known, use_case, over)
        rival = ranker_of(known.fetch(other, work / use_case / "fetched"), other.release, declared)
    title = f"{use_case}: {found.release} over {over or 'what was shown'}, {lists.lists:,} lists"
    console.print(off_policy_table(values_of(lists, mine, rival, clip=clip, seed=settings.seed), title))
    made = Manifest.read(folder).created
    if after is None or after < made:
        console.print(
            f"It was made at {made:%Y-%m-%d %H:%M} UTC: it may have learned from lists served before."
        )


def values_of(
    lists: ExploredLists, ranker: Ranker, rival: Ranker | None, *, clip: float | None, seed: int
) -> list[ListValue]:
    """Return what the ranker's order of the lists would bring, by each reward."""
    orders = lists.order_of(ranker), lists.order_of(rival) if rival is not None else None
    rng = np.random.default_rng(seed)
    return [list_value(lists, *orders, reward, rng=rng, settings=Settings(clip=clip)) for reward in Reward]


def off_policy_table(found: list[ListValue], title: str) -> Table:
    """Return estimates, effective sample sizes and warnings for a terminal."""
    table = Table("a list", "logged", "estimator", "value", "gain", "effective", "", title=title)
    for each in found:
        logged, size, warnings = f"{each.logged:.4f}", _size(each.support), _warnings(each)
        for name, value in each.value.items():
            table.add_row(
                each.reward, logged, name.upper(), _told(value), _told(each.gain[name]), size, warnings
            )
            logged = size = warnings = ""
    return table


def ranker_of(folder: Path, release: str, use_case: UseCase) -> Ranker:
    """Return a release's ranker.

    Raises
    ------
    NotFound
        If it has none that can be read.
    """
    found = champion_ranker(folder, use_case)
    if found is None:
        raise NotFound(f"{release}: has no ranker that can be read", reason=Reason.RELEASE_NOT_FOUND)
    return found


def _told(value: Interval) -> str:
    return f"{value.mean:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def _size(support: Support) -> str:
    return f"{support.effective:,.0f} of {support.rows:,}"


def _warnings(found: ListValue) -> str:
    """Return what speaks against the value, then against the gain; a clean bill says so too."""
    said = [f"value: {warning}" for warning in found.support.warnings]
    said += [f"gain: {warning}" for warning in found.contested_support.warnings]
    return "[yellow]" + "; ".join(said) + "[/]" if said else "no warning"
