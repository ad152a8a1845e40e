"""What makes a retraining due, and whether one may run now: judged from numbers asked for before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.table import Table

from matchloop.acts import ActKind, ActNumber

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matchloop.acts import Act
    from matchloop.release import RegisteredRelease
    from training_jobs.config import TriggerConfig
    from training_jobs.drift import Drift
    from training_jobs.negatives import DueStatus

DRIFT = "drift"
SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """One reason for a retraining.

    Parameters
    ----------
    value, bound
        What was found and what it was held against; None where there is no number.
    due
        Whether it asks for a retraining.
    note
        What the numbers are.
    known
        False when it could not be asked: then it is not due, and `note` says why.
    """

    name: str
    value: float | None
    bound: float | None
    due: bool
    note: str = ""
    known: bool = True

    @property
    def numbers(self) -> tuple[ActNumber, ...]:
        """As an act keeps it; nothing where there is no number."""
        return () if self.value is None else (ActNumber(self.name, self.value, self.bound),)


@dataclass(frozen=True, slots=True)
class History:
    """What became of earlier runs.

    Parameters
    ----------
    last
        When the last one began, or its release was rolled back; None: none ever did.
    failed
        How many began since the last promotion that was not rolled back.
    """

    last: datetime | None = None
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to retrain now, and why or why not."""

    triggers: tuple[Trigger, ...]
    runs: bool
    why: str

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the triggers that could not be asked."""
        return tuple(trigger.name for trigger in self.triggers if not trigger.known)

    @property
    def numbers(self) -> tuple[ActNumber, ...]:
        """Every trigger's, as an act keeps them."""
        return tuple(number for trigger in self.triggers for number in trigger.numbers)


def unknown(name: str, why: str) -> Trigger:
    """Return a trigger that could not be asked: not due."""
    return Trigger(name, None, None, due=False, note=why, known=False)


def dislike_triggers(status: DueStatus) -> tuple[Trigger, ...]:
    """Judge by what feedback_svc says of dislikes, whose bounds are its own."""
    patterns, causes = len(status.patterns), status.causes
    return (
        Trigger("dislikes", status.unused, status.unused_bound, "negatives" in causes, "unused"),
        Trigger(
            "dislike_error", status.mean_error, status.mean_error_bound, "error" in causes, "mean, of unused"
        ),
        Trigger("dislike_patterns", patterns, 1, "pattern" in causes, ", ".join(status.patterns)),
    )


def age_trigger(created: datetime | None, now: datetime, config: TriggerConfig) -> Trigger:
    """Judge by when the champion was made; None: there is no champion, which is due."""
    if created is None:
        return Trigger("age", None, config.max_age_days, due=True, note="no champion")
    days = (now - created).total_seconds() / SECONDS_A_DAY
    return Trigger("age", days, config.max_age_days, days > config.max_age_days, "days since it was made")


def drift_trigger(drift: Drift) -> Trigger:
    """Judge by what the champion served since; what can't be told is not due."""
    worst = drift.worst
    if worst is None:
        return Trigger(DRIFT, None, None, due=False, note=str(drift))
    return Trigger(DRIFT, worst.psi, worst.bound, bool(drift.drifted), str(drift))


def history_of(acts: Sequence[Act], releases: Sequence[RegisteredRelease]) -> History:
    """Read what became of earlier runs from the acts RETRAINED and from when releases were promoted.

    A promotion that was rolled back counts as none, so that a run which ends in one is a failed one.
    """
    lasting = [each.promoted for each in releases if each.promoted and not each.rolled_back]
    promoted = max(lasting, default=None)
    begun = [act.act_time for act in acts if act.kind is ActKind.RETRAINED]
    rolled_back = [each.rolled_back for each in releases if each.rolled_back]
    failed = [time for time in begun if promoted is None or time > promoted]
    return History(max([*begun, *rolled_back], default=None), len(failed))


def decide(triggers: Sequence[Trigger], history: History, now: datetime, config: TriggerConfig) -> Decision:
    """Decide whether to retrain now.

    What is due runs, unless a pause holds it, so that what retraining does not mend is not tried for ever:

    - after runs that promoted nothing (refused, dead, rolled back), `least_hours`, doubled with each such run
      after the first, at most `max_age_days`. Whatever is due was due then, and more data alone may help;
    - after any run `least_hours` for drift: a release's own choices make its lists unlike those before it.
    """
    found = tuple(triggers)
    due = [trigger.name for trigger in found if trigger.due]
    if not due:
        missing = [trigger.name for trigger in found if not trigger.known]
        told = f"nothing is due; {', '.join(missing)} could not be asked" if missing else "nothing is due"
        return Decision(found, runs=False, why=told)
    names = ", ".join(due)
    pause, because = _pause(due, history, config)
    until = history.last + pause if history.last is not None else now
    if now < until:
        when = f"not before {until:%Y-%m-%d %H:%M} UTC"
        return Decision(found, runs=False, why=f"{names} due, but {because}: {when}")
    return Decision(found, runs=True, why=f"{names} due")


def _pause(due: Sequence[str], history: History, config: TriggerConfig) -> tuple[timedelta, str]:
    if history.failed:
        hours = config.least_hours * 2.0 ** min(history.failed - 1, 30)
        because = f"{history.failed} run{'s' if history.failed > 1 else ''} since promoted nothing that lasts"
        return timedelta(hours=min(hours, config.max_age_days * 24.0)), because
    if list(due) == [DRIFT]:
        return timedelta(hours=config.least_hours), "drift alone waits after a run"
    return timedelta(), ""


def trigger_table(decision: Decision, use_case: str) -> Table:
    """Return the triggers as a table for a terminal."""
    table = Table("trigger", "value", "bound", "due", "", title=f"{use_case}: {decision.why}")
    for trigger in decision.triggers:
        verdict = "[red]yes[/]" if trigger.due else "[green]no[/]"
        table.add_row(
            trigger.name,
            _number(trigger.value),
            _number(trigger.bound),
            verdict if trigger.known else "[yellow]unknown[/]",
            trigger.note,
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
