"""Let go of what is older than it is to be kept: ``python -m feedback_svc.retention``.

How long is said by ``FEEDBACK_RETAIN_*``; what is not said is kept for ever. Runs while the service serves:
each step looks at a bounded number of rows, in a transaction of its own, and rests after it. Broken off or
run twice at a time it does no harm; the next run goes on where this one ended.

What the record counts stays: items' popularity, subjects' tiers, matches. What an interaction hid from its
subject may be shown again once it has gone: strong positives are kept as long as
``FEEDBACK_RETAIN_INTERACTIONS_DAYS`` says, rejections and what they take from weights as
``FEEDBACK_RETAIN_DISLIKES_DAYS``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from feedback_svc.command import run, told
from feedback_svc.expiry import ExpiryRule, ExpiryStep, Kept, rules_of, walk
from feedback_svc.settings import RetentionSettings
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.protocol import Store
from matchloop.observe.job_metrics import JobMetrics, told_job
from matchloop.rpc.settings import read_settings
from matchloop.rpc.validation import utc_now
from matchloop.usecase import load_use_cases

AMENDMENTS = "amendments"
Rest = Callable[[], object]


def days_of(settings: RetentionSettings) -> dict[Kept, int | None]:
    """Return how many days each part of the record is kept; None: for ever."""
    return {
        Kept.VIEWS: settings.retain_views_days,
        Kept.INTERACTIONS: settings.retain_interactions_days,
        Kept.PLAIN_DISLIKES: settings.retain_dislikes_days,
        Kept.DISLIKES: settings.retain_dislikes_days,
        Kept.SESSIONS: settings.retain_sessions_days,
    }


def prune(store: Store, *, before: datetime, batch: int, dry_run: bool, rest: Rest) -> int:
    """Delete the amendments noted before a time, step by step; return how many."""
    if dry_run:
        return store.count_old_amendments(before=before)
    gone = 0
    while step := store.prune_amendments(before=before, batch=batch):
        gone += step
        rest()
    return gone


def apply(
    store: Store, settings: RetentionSettings, *, now: datetime, batch: int, dry_run: bool, rest: Rest
) -> dict[str, int]:
    """Apply every rule that is set, with a progress bar; return how many rows went, by rule."""
    rules = rules_of(days_of(settings), load_use_cases(*settings.use_case_folders), now)
    counts: dict[str, int] = {}
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for rule in rules:
            counts[rule.kept] = walk(
                store, rule, batch=batch, dry_run=dry_run, after_step=_Shown(progress, rule, rest)
            )
    if not dry_run:
        store.note_changes(now=now)
    if settings.retain_amendments_days is not None:
        before = now - timedelta(days=settings.retain_amendments_days)
        counts[AMENDMENTS] = prune(store, before=before, batch=batch, dry_run=dry_run, rest=rest)
    return counts


class _Shown:
    """Shows how far a walk has come: from the arrival of its first rows to the rule's bound; then rests."""

    def __init__(self, progress: Progress, rule: ExpiryRule, rest: Rest) -> None:
        self._progress, self._rule, self._rest = progress, rule, rest
        self._task = progress.add_task(rule.kept.replace("_", " "), total=None)
        self._first: datetime | None = None

    def __call__(self, step: ExpiryStep) -> None:
        self._first = self._first or step.reached
        if step.position is None:
            self._progress.update(self._task, total=1.0, completed=1.0)
            return
        if self._first is not None and step.reached is not None:
            span = (self._rule.before - self._first).total_seconds()
            self._progress.update(
                self._task,
                total=max(span, 1.0),
                completed=min(max((step.reached - self._first).total_seconds(), 0.0), max(span, 1.0)),
            )
        self._rest()


def main(
    dry_run: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--dry-run", help="Count what would go; change nothing.")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, max=100_000, help="Rows that one transaction looks at.")
    ] = 5000,
    pause: Annotated[
        float, typer.Option(min=0.0, max=60.0, help="Seconds of rest after each transaction.")
    ] = 0.1,
) -> None:
    """Delete what FEEDBACK_RETAIN_* no longer keep. Exit codes: 0 done, 1 broken off, 2 faulty settings."""
    with nullcontext(JobMetrics()) if dry_run else told_job("retention") as metrics, told():
        settings = read_settings(RetentionSettings)
        store = PostgresStore(Database(settings.database_url, pool_size=1, statement_timeout=60.0))
        try:
            counts = apply(
                store,
                settings,
                now=utc_now(),
                batch=batch,
                dry_run=dry_run,
                rest=lambda: None if dry_run else time.sleep(pause),
            )
        finally:
            store.close()
        for name, count in counts.items():
            metrics.retention_deleted.labels(name).set(count)
    for name, count in counts.items():
        typer.echo(f"{name.replace('_', ' ')}: {count} {'would go' if dry_run else 'deleted'}")
    if not counts:
        typer.echo("no FEEDBACK_RETAIN_* is set: everything is kept")


if __name__ == "__main__":
    run(main, "retention")
