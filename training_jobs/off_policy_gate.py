"""The off-policy gate: what explored lists would have brought in the candidate's order and the champion's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from matchloop.release import Manifest
from training_jobs.champion import champion_ranker
from training_jobs.datasets.ranker import split_by_time
from training_jobs.evaluate.list_value import ListValue, Reward, list_value
from training_jobs.evaluate.logged import ExploredLists, explored_lists
from training_jobs.evaluate.off_policy import Estimator, Settings
from training_jobs.evaluate.support import Trust
from training_jobs.gates import Gate, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from matchloop.rerank.scorer import Ranker
    from matchloop.usecase import UseCase
    from training_jobs.config import TrainingConfig
    from training_jobs.config.judging import GateConfig
    from training_jobs.datasets import RankerDataset
    from training_jobs.datasets.tables import SnapshotTables

NAME = "off_policy"


def off_policy_gate(
    ranker: Ranker,
    champion: Path | None,
    tables: SnapshotTables,
    examples: RankerDataset,
    use_case: UseCase,
    config: TrainingConfig,
    rng: np.random.Generator,
) -> Gate:
    """Ask that the candidate's order bring no fewer clicks than the champion's, on lists that chance varied.

    Only lists count that neither ranker learned from: served after the candidate's training part, and after
    the champion was made.

    Parameters
    ----------
    champion
        Its release's folder. None, or one without a ranker that can be read: the lists as shown instead.
    examples
        What the candidate was trained on; it learned from the earlier part of `split_by_time`.
    """
    rival = champion_ranker(champion, use_case) if champion is not None else None
    after = _end_of_training(examples, config.dataset.validation_share)
    if champion is not None and rival is not None:
        made = Manifest.read(champion).created
        after = max(after, made) if after is not None else made
    lists = explored_lists(tables, use_case, config.dataset, after=after)
    return gate_on_lists(lists, ranker, rival, config.gates, rng)


def gate_on_lists(
    lists: ExploredLists,
    ranker: Ranker,
    rival: Ranker | None,
    config: GateConfig,
    rng: np.random.Generator,
) -> Gate:
    """Ask that the gain's lower bound, as a share of the clicks logged, be −`off_policy_tolerance` or more.

    The bound is DR's, one-sided at `confidence`. The gate is skipped, and says why, without such lists and
    with a warning about what they can tell. Nor does it refuse what chance explains: a gain whose standard
    error is over half the tolerance has to be a loss for its whole 95 % interval.
    """
    tolerance, bound = config.off_policy_tolerance, 2.0 * config.confidence - 1.0
    whose = "champion's order" if rival is not None else "lists as shown"
    if not len(lists):
        left = f" ({lists.left_out} log propensities that are no blocks)" if lists.left_out else ""
        note = f"no list new to both was varied by chance with propensities and features logged{left}"
        return Gate(NAME, 0.0, -tolerance, Verdict.SKIPPED, note)
    orders = lists.order_of(ranker), lists.order_of(rival) if rival is not None else None
    trust, seed = Trust(least_rows=config.off_policy_rows), int(rng.integers(2**32))
    wide, one_sided, strong = (
        list_value(
            lists,
            *orders,
            reward,
            rng=np.random.default_rng(seed),
            settings=Settings(level=level, trust=trust),
        )
        for reward, level in ((Reward.CLICK, 0.95), (Reward.CLICK, bound), (Reward.STRONG, 0.95))
    )
    clicks = max(wide.logged, 1e-9)
    low = one_sided.gain[Estimator.DR].low / clicks
    told = (
        f"{_told(wide)}; {_told(strong)}; over the {whose}, {wide.lists} lists, {wide.contested} slots differ"
    )
    warnings = wide.contested_support.warnings
    if warnings:
        return Gate(NAME, low, -tolerance, Verdict.SKIPPED, f"{'; '.join(warnings)}: {told}")
    note = f"{config.confidence:.0%} lower bound, share of clicks: {told}"
    if low >= -tolerance:
        return Gate(NAME, low, -tolerance, Verdict.PASSED, note)
    robust = wide.gain[Estimator.DR]
    error = (robust.high - robust.low) / (2.0 * 1.96) / clicks
    if error > tolerance / 2.0 and robust.high >= 0.0:
        note = f"standard error {error:.1%} of the clicks, {tolerance / 2.0:.1%} is needed: {told}"
        return Gate(NAME, low, -tolerance, Verdict.SKIPPED, note)
    return Gate(NAME, low, -tolerance, Verdict.REFUSED, note)


def _told(found: ListValue) -> str:
    """Return a reward's gain by DR and by SNIPS, for people."""
    robust, plain = found.gain[Estimator.DR], found.gain[Estimator.SNIPS]
    return (
        f"{found.reward} {robust.mean:+.4f} [{robust.low:+.4f}, {robust.high:+.4f}] "
        f"(SNIPS {plain.mean:+.4f}) on {found.logged:.4f} a list"
    )


def _end_of_training(examples: RankerDataset, share: float) -> datetime | None:
    """Return when the last list was served that the candidate learned from; None if there was none."""
    earlier, _ = split_by_time(examples, share)
    if not len(earlier):
        return None
    last: datetime = earlier.serve_time.max().astype("datetime64[us]").item()
    return last.replace(tzinfo=UTC)
