"""Gates on the ranker: its order of the latest lists, how far its scores can be believed, how long it takes.

It is judged by whole lists. A positive at a deep rank had less of a chance, so it counts by the inverse of
its rank's examination probability (Joachims et al. 2017, "Unbiased learning-to-rank with biased feedback",
eq. 4).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from matchloop.position import Weighting, exposure_weight
from matchloop.rerank.calibration import DEFAULT_PLATT, SCORE_FLOOR, logit, sigmoid
from matchloop.rerank.features import FeatureColumns
from matchloop.rerank.placement import CandidateList, place
from matchloop.rerank.scorer import RuleScorer
from matchloop.usecase import Method
from training_jobs.evaluate.bootstrap import interval_of
from training_jobs.gates import RESAMPLES, Gate, Verdict, ranker_gate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.rerank.calibration import Platt
    from matchloop.rerank.scorer import Ranker, Scorer
    from matchloop.usecase import UseCase
    from training_jobs.config import GateConfig
    from training_jobs.datasets import RankerDataset

BINS = 10
CANDIDATES = 20
CLICKED = 0.5
"""What a click is worth beside a strong positive: most lists have one, far fewer have the other."""
ROUNDS, TIMED = 5, 100
"""Rounds of timing, and lists timed in each, of each kind."""


def as_calibrated(
    lists: RankerDataset, served: Mapping[Method, Platt], own: Mapping[Method, Platt]
) -> RankerDataset:
    """Return lists with the `original_score` that a ranker's own calibration gives, as it would serve them.

    Parameters
    ----------
    served
        The calibration under which they were served; a method without has `DEFAULT_PLATT`'s.
    own
        The ranker's.
    """
    original = lists.original_score.copy()
    for name in sorted(set(lists.method.tolist())):
        method, rows = Method(name), lists.method == name
        old, new = (each.get(method) or DEFAULT_PLATT[method] for each in (served, own))
        if old != new:
            evidence = (logit(original[rows]) - old.intercept) / old.slope
            original[rows] = sigmoid((new.slope * evidence + new.intercept).astype(np.float32))
    original = np.clip(original, SCORE_FLOOR, 1.0 - SCORE_FLOOR)
    features = lists.features.copy()
    features[:, lists.feature_names.index("original_score")] = original
    return replace(lists, original_score=original, features=features)


def _own(lists: RankerDataset, candidate: Ranker, champion: Ranker | None) -> RankerDataset:
    """Return lists that the champion served as the candidate would serve them."""
    served = champion.calibration if champion is not None else {}
    return as_calibrated(lists, served, candidate.calibration)


def _logits(lists: RankerDataset, ranker: Ranker) -> NDArray[np.float32]:
    return np.asarray(logit(lists.original_score) + ranker.adjustment(lists.features), dtype=np.float32)


def list_gains(lists: RankerDataset, scores: NDArray[np.float32], k: int = 10) -> NDArray[np.float64]:
    """Return the discounted gain of each list that was reacted to, in order of serving.

    Σ gain / log2(place + 1) over the first k by `scores` (n,). The gain of a strong positive is 1 over the
    examination probability of the rank it was shown at, a click's `CLICKED` of that. All lists are taken over
    the mean of the best they could have. Ties keep the order that was served.
    """
    worth = np.where(lists.source == "reacted", CLICKED, lists.label)
    if not worth.any():
        return np.zeros(0)
    gain = worth * exposure_weight(lists.rank, Weighting.INVERSE)
    reached, best = (
        _discounted(lists.group, gain, order, k)
        for order in (
            np.lexsort((lists.rank, -scores, lists.group)),
            np.lexsort((-gain, lists.group)),
        )
    )
    has = best > 0.0
    found: NDArray[np.float64] = reached[has] / best[has].mean()
    return found


def _discounted(
    group: NDArray[np.int64], gain: NDArray[np.float64], order: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    _, start, size = np.unique(group[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(start, size)
    worth = np.where(place < k, gain[order] / np.log2(place + 2.0), 0.0)
    return np.asarray(np.add.reduceat(worth, start), dtype=np.float64)


def quality_gate(
    lists: RankerDataset,
    candidate: Ranker,
    champion: Ranker | None,
    config: GateConfig,
    rng: np.random.Generator,
) -> Gate:
    """Ask that the ranker order the latest lists no worse than the retrieval, nor than the champion's."""
    teacher = logit(lists.original_score)
    rivals = {"teacher": list_gains(lists, teacher)}
    if champion is not None:
        rivals["champion"] = list_gains(lists, _logits(lists, champion))
    whose, best = max(rivals.items(), key=lambda each: float(each[1].mean()) if len(each[1]) else 0.0)
    mine = list_gains(lists, _logits(_own(lists, candidate, champion), candidate))
    return ranker_gate(mine, best, champion=whose == "champion", config=config, rng=rng)


def direction_gate(
    lists: RankerDataset,
    candidate: Ranker,
    champion: Ranker | None,
    config: GateConfig,
    rng: np.random.Generator,
) -> Gate:
    """Ask that the ranker follow the retrieval, or have shown on the latest lists why not.

    The items of a list were chosen alike, so a list can hardly tell that a ranker turns the order of less
    alike candidates round: it serves twice as many as were shown. So each item shown is asked about twice,
    with the best and with the worst retrieval score of its list, all else the same. The value is the share
    that scores higher with the best. Under a half, the order of the lists must be better than the
    retrieval's for its whole 95 % interval.
    """
    name, bound = "ranker_direction", 0.5
    if not len(lists):
        return Gate(name, 0.0, bound, Verdict.SKIPPED, "no latest list")
    lists = _own(lists, candidate, champion)
    original, model = (lists.feature_names.index(n) for n in ("original_score", "model_score"))
    _, start, number = np.unique(lists.group, return_index=True, return_inverse=True)
    logits = []
    for end, extreme in ((0.0, np.minimum), (1.0, np.maximum)):
        rows = lists.features.copy()
        rows[:, model] = end
        rows[:, original] = extreme.reduceat(lists.original_score, start)[number]
        logits.append(logit(rows[:, original]) + candidate.adjustment(rows))
    share = float((logits[1] > logits[0]).mean() + 0.5 * (logits[1] == logits[0]).mean())
    note = "share of items that gain by being the retrieval's best"
    if share >= bound:
        return Gate(name, share, bound, Verdict.PASSED, note)
    teacher = logit(lists.original_score)
    gain = list_gains(lists, _logits(lists, candidate)) - list_gains(lists, teacher)
    found = interval_of(gain, rng=rng, resamples=RESAMPLES)
    shown = len(gain) >= config.least_pairs and found.low > 0.0
    note = f"{note}; gain on {len(gain)} lists {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return Gate(name, share, bound, Verdict.PASSED if shown else Verdict.REFUSED, note)


def calibration_error(
    scores: NDArray[np.float64], outcomes: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """Return the expected calibration error of scores (n,) for outcomes in {0, 1}, weighted; 0 for none.

    Over `BINS` bins of equal weight by score, each bin's distance between mean score and share of positives,
    by its weight (Naeini, Cooper, Hauskrecht 2015, with equal-mass bins).
    """
    whole = float(weights.sum())
    if whole <= 0.0:
        return 0.0
    order = np.argsort(scores, kind="stable")
    share = (np.cumsum(weights[order]) - weights[order] / 2.0) / whole
    bins = np.minimum((share * BINS).astype(np.int64), BINS - 1)
    apart = np.bincount(bins, weights=(weights * (scores - outcomes))[order], minlength=BINS)
    return float(np.abs(apart).sum() / whole)


def calibration_gate(
    lists: RankerDataset,
    candidate: Ranker,
    champion: Ranker | None,
    config: GateConfig,
    weighting: Weighting,
) -> Gate:
    """Ask that the scores be about as near to what came of them as the champion's, or the teacher's.

    Outcomes are strong positives. Each item weighs what its rank makes it worth to the ranker (by default
    `discount`): what stood too deep to be looked at says little about whether it was wanted.
    """
    name = "ranker_calibration"
    positive_lists = len(np.unique(lists.group[lists.label > 0.5]))
    if positive_lists < config.least_pairs:
        note = f"{positive_lists} latest lists with a positive, {config.least_pairs} are needed"
        return Gate(name, 0.0, 0.0, Verdict.SKIPPED, note)
    weights = exposure_weight(
        lists.rank, Weighting.DISCOUNT if weighting is Weighting.ESTIMATED else weighting
    )
    teacher = logit(lists.original_score)

    def error(logits: NDArray[np.float32]) -> float:
        scores = sigmoid(logits).astype(np.float64)
        return calibration_error(scores, lists.label.astype(np.float64), weights)

    mine = error(_logits(_own(lists, candidate, champion), candidate))
    rival = teacher if champion is None else _logits(lists, champion)
    theirs, whose = error(rival), "teacher" if champion is None else "champion"
    threshold = theirs + config.calibration_tolerance
    verdict = Verdict.PASSED if mine <= threshold else Verdict.REFUSED
    note = f"expected calibration error, {whose}'s {theirs:.4f} + {config.calibration_tolerance:g}"
    return Gate(name, mine, threshold, verdict, f"{note}, weighted by rank: {weighting}")


def latency_gates(
    ranker: Ranker,
    use_case: UseCase,
    config: GateConfig,
    rng: np.random.Generator,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Gate]:
    """Time the placement of 20 candidates through the class that serves, in turns with the rule.

    Of the rounds the quickest counts: what other processes take of the machine is not the ranker's.
    """
    columns, rule = FeatureColumns.of(use_case), RuleScorer(use_case)
    spent: dict[str, list[float]] = {"ranker": [], "rule": []}
    scorers: tuple[tuple[str, Scorer], ...] = (("ranker", ranker), ("rule", rule))
    for _ in range(ROUNDS * TIMED):
        candidates = _candidates(use_case, columns, rng)
        for name, scorer in scorers:
            began = clock()
            place(candidates, columns, scorer)
            spent[name].append((clock() - began) * 1000.0)
    gates = []
    for quantile, bound in ((50, config.latency_p50_ms), (99, config.latency_p99_ms)):
        rounds = {name: np.reshape(taken, (ROUNDS, TIMED)) for name, taken in spent.items()}
        mine, baseline = (float(np.percentile(rounds[name], quantile, axis=1).min()) for name in spent)
        threshold = max(bound, config.latency_over_rule * baseline)
        verdict = Verdict.PASSED if mine <= threshold else Verdict.REFUSED
        note = f"{CANDIDATES} candidates; at most {bound:g}, or {config.latency_over_rule:g} × the rule's "
        gates.append(
            Gate(f"ranker_p{quantile}_ms", mine, threshold, verdict, note + f"{baseline:.3f} just now")
        )
    return gates


def _candidates(use_case: UseCase, columns: FeatureColumns, rng: np.random.Generator) -> CandidateList:
    fields = len(use_case.ranking.diversity_fields)
    values = [tuple((f"v{rng.integers(8)}",) for _ in range(fields)) for _ in range(CANDIDATES)]
    return CandidateList(
        items=tuple(f"i{n}" for n in range(CANDIDATES)),
        retrieval_scores=rng.random(CANDIDATES, dtype=np.float32),
        methods=(Method.TWO_TOWER,) * CANDIDATES,
        item_features=rng.random((CANDIDATES, len(columns.item_names)), dtype=np.float32),
        diversity_values=values,
    )
