"""What was served since, held against a release's baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from training_jobs.drift.baseline import columns_of
from training_jobs.drift.psi import pearson, psi

if TYPE_CHECKING:
    from datetime import datetime

    from training_jobs.config import TriggerConfig
    from training_jobs.drift.baseline import Baseline
    from training_jobs.drift.lists import Lists

BAR = "▁▂▃▄▅▆▇█"
FALSE_ALARM = 0.001
"""In so many of all looks chance alone may seem to be drift, of any feature."""


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How far one feature has gone.

    Parameters
    ----------
    psi
        As measured.
    chance
        What of it two samples of this size have on average without any drift.
    bound
        The one that is set, on top of `chance`.
    tail
        How probable it is that chance alone makes the samples as different as they are.
    drifted
        Whether it is over the bound, and not by chance.
    before, now
        Shares of each bin.
    """

    name: str
    psi: float
    chance: float
    bound: float
    tail: float
    drifted: bool
    before: tuple[float, ...]
    now: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """What drift was found, or why none could be.

    Parameters
    ----------
    release
        Whose baseline it is, and whose lists were looked at.
    features
        Each feature's, the score's last; empty when it could not be told.
    lists, baseline_lists
        How many lists were looked at, and how many the baseline rests on.
    untold
        Why it could not be told; empty when it could.
    """

    release: str
    features: tuple[FeatureDrift, ...] = ()
    lists: int = 0
    baseline_lists: int = 0
    first: datetime | None = None
    last: datetime | None = None
    untold: str = ""

    @property
    def worst(self) -> FeatureDrift | None:
        """The feature that went furthest, measured by its bound; one that drifted, if any did."""
        return max(self.features, key=lambda each: (each.drifted, each.psi / each.bound), default=None)

    @property
    def drifted(self) -> tuple[FeatureDrift, ...]:
        """Features over their bounds, as listed."""
        return tuple(feature for feature in self.features if feature.drifted)

    def __str__(self) -> str:
        """Return a line for people."""
        if self.untold or self.worst is None:
            return self.untold or "no features"
        names = ", ".join(feature.name for feature in self.drifted)
        worst = f"{self.worst.name} {self.worst.psi:.3f} of {self.worst.bound:.3f}"
        return f"{names} drifted; {worst}" if names else f"nothing drifted; {worst}"


def drift_of(release: str, baseline: Baseline | None, served: Lists, config: TriggerConfig) -> Drift:
    """Measure each feature of the lists that `release` served against its baseline.

    Without a baseline, or with fewer than `config.drift_least_lists` lists on either side, it is untold.
    """
    if baseline is None:
        return Drift(release, untold=f"no baseline: {release} was trained before there were lists")
    least = config.drift_least_lists
    for count, whose in ((baseline.lists, "in the baseline"), (len(served), "served since")):
        if count < least:
            few = f"{count} lists {whose}, {least} are needed"
            return Drift(release, lists=len(served), baseline_lists=baseline.lists, untold=few)
    values = dict(columns_of(served))
    found, level = [], FALSE_ALARM / len(values)  # Bonferroni: any of them
    for reference in baseline.features:
        if reference.name not in values:
            continue
        now = reference.bins.tally(values[reference.name], served.subject)
        before = reference.tally
        chance = before.chance + now.chance
        found_psi, bound = psi(before.counts, now.counts), config.drift_psi + chance.mean
        tail = chance.tail(pearson(before.counts, now.counts))
        found.append(
            FeatureDrift(
                name=reference.name,
                psi=found_psi,
                chance=chance.mean,
                bound=bound,
                tail=tail,
                drifted=found_psi > bound and tail < level,
                before=tuple(before.shares.tolist()),
                now=tuple(now.shares.tolist()),
            )
        )
    return Drift(
        release,
        tuple(found),
        lists=len(served),
        baseline_lists=baseline.lists,
        first=served.first,
        last=served.last,
    )


def drift_table(drift: Drift, use_case: str) -> Table:
    """Return it as a table for a terminal: a bar a bin, before and now, to one scale a feature."""
    title = f"{use_case}: {drift.lists} lists served since, {drift.baseline_lists} trained on"
    table = Table("feature", "PSI", "by chance", "bound", "p", "", "before", "now", title=title)
    for feature in drift.features:
        top = max(*feature.before, *feature.now)
        table.add_row(
            feature.name,
            f"{feature.psi:.3f}",
            f"{feature.chance:.3f}",
            f"{feature.bound:.3f}",
            f"{feature.tail:.2g}",
            "[red]drifted[/]" if feature.drifted else "[green]stayed[/]",
            bars(feature.before, top),
            bars(feature.now, top),
        )
    return table


def bars(shares: tuple[float, ...], top: float) -> str:
    """Return a bar a share, the highest for `top`; a blank for 0."""
    steps = len(BAR)
    return "".join(BAR[min(int(share / top * steps), steps - 1)] if share > 0.0 else " " for share in shares)
