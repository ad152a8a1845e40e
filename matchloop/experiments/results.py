"""The results of an experiment by arm: rates, how far the challenger is ahead, how fair the dealing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matchloop.experiments.arms import CHALLENGER_ARM, CHAMPION_ARM
from matchloop.experiments.intervals import ALPHA, RatioSums, difference_interval, rate_interval
from matchloop.experiments.reactions import Moments, Reactions
from matchloop.experiments.sample_ratio import sample_ratio_p_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matchloop.experiments.experiment import Experiment
    from matchloop.experiments.intervals import Interval


@dataclass(frozen=True, slots=True)
class Rates:
    """One interval for each kind of reaction; each keeps its promise by itself."""

    click_rate: Interval
    strong_positive_rate: Interval
    dislike_rate: Interval


@dataclass(frozen=True, slots=True)
class ArmResult:
    """What one arm achieved.

    Parameters
    ----------
    release
        The arm's when the experiment was started; lists that another one had to make count all the same.
    expected_share
        Of subjects that the arm should get.
    """

    arm: str
    release: str
    expected_share: float
    sums: Reactions
    rates: Rates


@dataclass(frozen=True, slots=True)
class Results:
    """What came of an experiment so far.

    Parameters
    ----------
    arms
        Champion, then challenger.
    difference
        Challenger minus champion; None until both arms have subjects.
    sample_ratio_p_value
        See `matchloop.experiments.sample_ratio`; 1 without subjects.
    confidence
        Of every interval, by itself.
    """

    experiment: Experiment
    arms: tuple[ArmResult, ArmResult]
    difference: Rates | None
    sample_ratio_p_value: float
    confidence: float


def results_of(experiment: Experiment, rows: Iterable[Reactions], *, alpha: float = ALPHA) -> Results:
    """Return the results by arm.

    Parameters
    ----------
    rows
        What came of the lists served while the experiment ran; those of no arm are left out.
    """
    found = [row for row in rows if row.arm]
    champion = pooled([row for row in found if row.arm == CHAMPION_ARM], CHAMPION_ARM)
    challenger = pooled([row for row in found if row.arm == CHALLENGER_ARM], CHALLENGER_ARM)
    share = experiment.challenger_share
    difference = None
    if champion.shown and challenger.shown:
        difference = _rates(
            lambda pick: difference_interval(sums(challenger, pick), sums(champion, pick), alpha=alpha)
        )
    return Results(
        experiment,
        (
            _arm(champion, experiment.champion_release, 1.0 - share, alpha),
            _arm(challenger, experiment.challenger_release, share, alpha),
        ),
        difference,
        sample_ratio_p_value(challenger.subjects, champion.subjects, share=share),
        1.0 - alpha,
    )


def sums(reactions: Reactions, pick: Callable[[Reactions], Moments]) -> RatioSums:
    """Return the sums of one kind of reaction, e.g. ``sums(reactions, clicks)``."""
    return RatioSums.of(reactions, pick(reactions))


def clicks(reactions: Reactions) -> Moments:
    """Return the moments of clicks."""
    return reactions.clicks


def strong_positives(reactions: Reactions) -> Moments:
    """Return the moments of strong positives."""
    return reactions.strong_positives


def dislikes(reactions: Reactions) -> Moments:
    """Return the moments of dislikes."""
    return reactions.dislikes


def pooled(rows: Iterable[Reactions], arm: str = "", release: str = "") -> Reactions:
    """Return the sums of several groups as one; a subject in two of them counts as two.

    Means are weighted by the items shown.
    """
    rows = tuple(rows)
    shown = sum(row.shown for row in rows)
    return Reactions(
        arm,
        release,
        subjects=sum(row.subjects for row in rows),
        sessions=sum(row.sessions for row in rows),
        shown=shown,
        shown_squares=sum(row.shown_squares for row in rows),
        clicks=_added(map(clicks, rows)),
        strong_positives=_added(map(strong_positives, rows)),
        dislikes=_added(map(dislikes, rows)),
        reranked_sessions=sum(row.reranked_sessions for row in rows),
        mean_diversity=sum(row.mean_diversity * row.shown for row in rows) / max(shown, 1),
        mean_freshness=sum(row.mean_freshness * row.shown for row in rows) / max(shown, 1),
    )


def _added(parts: Iterable[Moments]) -> Moments:
    parts = tuple(parts)
    return Moments(
        sum(part.total for part in parts),
        sum(part.squares for part in parts),
        sum(part.products for part in parts),
    )


def _arm(reactions: Reactions, release: str, share: float, alpha: float) -> ArmResult:
    rates = _rates(lambda pick: rate_interval(sums(reactions, pick), alpha=alpha))
    return ArmResult(reactions.arm, release, share, reactions, rates)


def _rates(interval: Callable[[Callable[[Reactions], Moments]], Interval]) -> Rates:
    return Rates(interval(clicks), interval(strong_positives), interval(dislikes))
