"""Which methods answer and what the ensemble is made of, by tier: chosen on the validation part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from matchloop.retrieval.fusion import PERSONAL, Fusion, Places
from matchloop.usecase import Method, Tier
from training_jobs.evaluate.ranking import Truth
from training_jobs.scoring import filled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.usecase import UseCase
    from training_jobs.config import EnsembleConfig

SEARCHED = 30
"""The search fuses the first so many of each ranking; what it chose is measured with all."""

Tops = Mapping[Method, "NDArray[np.int64]"]
"""By method, rows of items by subject, best first, (n, depth), -1 for none."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is right, with two voices, and what each method found.

    Over all pairs new items decide, where there are many of them: what was learned from reactions cannot find
    one. So pairs of known items are judged once more by themselves, and methods have to do well by both.

    Parameters
    ----------
    truth
        A line for each subject with all of its pairs, then one for each that has pairs of known items, with
        these alone.
    tiers
        str (n,): of each line's subject.
    tops
        Each line's items by method.
    """

    truth: Truth
    tiers: NDArray[np.str_]
    tops: Tops

    @classmethod
    def of(
        cls, truth: Truth, tiers: NDArray[np.str_], tops: Tops, known: NDArray[np.int64] | None
    ) -> Evidence:
        """Gather; `known` are rows of items with an event in training, None: no second voice."""
        if known is None:
            return cls(truth, tiers, tops)
        held = np.zeros(truth.relevant.shape[1], dtype=np.float32)
        held[known] = 1.0
        second = truth.relevant.multiply(held[None, :]).tocsr()
        second.eliminate_zeros()
        rows = np.flatnonzero(np.diff(second.indptr) > 0)
        if len(rows) == 0:
            return cls(truth, tiers, tops)
        lines = np.concatenate([np.arange(len(truth)), rows])
        shown = None if truth.shown is None else truth.shown[lines]
        relevant = sparse.vstack([truth.relevant, second[rows]], format="csr")
        both = Truth(truth.subjects[lines], relevant, truth.seen[lines], shown)
        return cls(both, tiers[lines], {method: top[lines] for method, top in tops.items()})

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, rows: NDArray[np.int64]) -> Evidence:
        """Return some of the lines."""
        tops = {method: top[rows] for method, top in self.tops.items()}
        return Evidence(self.truth.of(rows), self.tiers[rows], tops)

    def tier(self, tier: Tier) -> Evidence:
        """Return the lines of one tier's subjects."""
        return self.part(np.flatnonzero(self.tiers == tier.value))

    def at_most(self, count: int, seed: int) -> Evidence:
        """Return a random choice of so many lines, when there are more."""
        if len(self) <= count:
            return self
        rows = np.random.default_rng(seed).choice(len(self), count, replace=False)
        return self.part(np.sort(rows))


def surpasses(mine: NDArray[np.float64], other: NDArray[np.float64], margin: float) -> bool:
    """Tell whether `mine`, (n,), is better by more than `margin` standard errors of the mean difference."""
    gain = mine - other
    return bool(gain.mean() > margin * gain.std() / np.sqrt(max(len(gain), 1)))


def ensemble_top(
    tops: Tops, fusions: Mapping[Tier, Fusion], tiers: NDArray[np.str_], k: int
) -> NDArray[np.int64]:
    """Return what the ensemble of each subject's tier gives it, through the class that serves it.

    Als, two_tower and content alike for a tier without an ensemble of its own. Nothing for subjects of whom
    no personal method knows anything.
    """
    found = np.full((len(tiers), k), -1, dtype=np.int64)
    for tier in Tier:
        rows = np.flatnonzero(tiers == tier.value)
        singles: dict[Method, NDArray[np.int64]] = {
            method: top[rows] for method, top in tops.items() if method != Method.ENSEMBLE
        }
        if len(rows) and singles:
            fusion = fusions.get(tier) or Fusion()
            fused = Places.of(singles).fused(fusion, k)[0]
            personal = [singles[m][:, 0] >= 0 for m in fusion.methods if m in PERSONAL and m in singles]
            known = np.any(personal, axis=0) if personal else np.zeros(len(rows), dtype=np.bool_)
            found[rows] = np.where(known[:, None], fused, -1)
    return found


def choose_fusions(
    evidence: Evidence,
    k: int,
    config: EnsembleConfig,
    *,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> dict[Tier, Fusion]:
    """Choose weights and constant: for all subjects together, then for each tier that gains by its own.

    `popular` may have the most say, but never all of it. Nothing with fewer than `config.least_subjects`
    lines: the default holds. A tier with fewer has what is
    best for all.
    """
    personal = (top for method, top in evidence.tops.items() if method in PERSONAL)
    if len(evidence) < config.least_subjects or not any((top >= 0).any() for top in personal):
        return {}
    end = clock() + config.seconds
    common = _Search(evidence.at_most(config.subjects, seed), k, config, end, clock).best(None)
    fusions = {}
    for tier in Tier:
        part = evidence.tier(tier)
        fusions[tier] = common
        if len(part) >= config.least_subjects:
            fusions[tier] = _Search(part.at_most(config.subjects, seed), k, config, end, clock).best(common)
    return fusions


class _Search:
    """Coordinate search: one number at a time, again and again until none is better, or time is up."""

    def __init__(
        self, evidence: Evidence, k: int, config: EnsembleConfig, end: float, clock: Callable[[], float]
    ) -> None:
        singles: dict[Method, NDArray[np.int64]] = {
            m: top[:, :SEARCHED] for m, top in evidence.tops.items() if m != Method.ENSEMBLE
        }
        self._methods = tuple(
            method for method in Method if method in singles and (singles[method] >= 0).any()
        )
        self._places = Places.of(singles)
        self._truth, self._k, self._config = evidence.truth, k, config
        self._end, self._clock = end, clock
        self._measured: dict[tuple[float, ...], NDArray[np.float64]] = {}

    def best(self, start: Fusion | None) -> Fusion:
        """Return the best found from `start` on; None: from the best method alone, and from all alike."""
        if start is not None:
            return self._climb(start)
        middle = self._config.constants[len(self._config.constants) // 2]
        alone = [Fusion({method: 1.0}, middle) for method in self._methods if method in PERSONAL]
        first = max(alone, key=lambda fusion: float(self._ndcg(fusion).mean()))
        alike = Fusion(dict.fromkeys(self._methods, 1.0), middle)
        found = [self._climb(each) for each in (first, alike)]
        return found[surpasses(self._ndcg(found[1]), self._ndcg(found[0]), 0.0)]

    def _climb(self, best: Fusion) -> Fusion:
        reached = self._ndcg(best)
        for _ in range(self._config.rounds):
            before = best
            for name in (*self._methods, None):
                for tried in self._alternatives(best, name):
                    if self._clock() >= self._end:
                        return best
                    found = self._ndcg(tried)
                    if surpasses(found, reached, self._config.margin):
                        best, reached = tried, found
            if best is before:
                break
        return best

    def _alternatives(self, fusion: Fusion, name: Method | None) -> list[Fusion]:
        if name is None:
            return [Fusion(fusion.weights, constant) for constant in self._config.constants]
        found = []
        for weight in self._config.weights:
            weights = {**fusion.weights, name: weight}
            if any(weights.get(method) for method in PERSONAL):
                found.append(Fusion(weights, fusion.constant))
        return found

    def _ndcg(self, fusion: Fusion) -> NDArray[np.float64]:
        whole = sum(fusion.weights.values())
        key = (fusion.constant, *(round(fusion.weights.get(m, 0.0) / whole, 9) for m in self._methods))
        if key not in self._measured:
            top, _ = self._places.fused(fusion, self._k)
            self._measured[key] = self._truth.weighted_ndcg(top, self._k)
        return self._measured[key]


@dataclass(frozen=True, slots=True)
class Order:
    """A tier's method order and how it was chosen.

    Parameters
    ----------
    ndcg, error
        Mean over the evidence of the tier, and its standard error; NaN where nothing was measured.
    gain, gain_error
        Over the use case's order.
    """

    methods: tuple[Method, ...]
    ndcg: float = float("nan")
    error: float = float("nan")
    gain: float = 0.0
    gain_error: float = 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured, by name; {} where nothing was."""
        if np.isnan(self.ndcg):
            return {}
        return {
            "ndcg": self.ndcg,
            "error": self.error,
            "gain": self.gain,
            "gain_error": self.gain_error,
        }


def choose_orders(
    use_case: UseCase,
    evidence: Evidence,
    k: int,
    *,
    margin: float,
    least_subjects: int = 20,
) -> dict[Tier, Order]:
    """Choose each tier's method order by the NDCG@k of what it would give, each method filling what misses.

    The first method is chosen, then, place by place, what follows. Where orders are alike within `margin`
    standard errors of their difference, the use case's stays; so it does for a tier with less evidence than
    `least_subjects`. Methods that were not measured come after those that were, and `popular` comes last
    whatever it reached: what is popular is not ranked further, so a list of it would teach the ranker
    nothing. Where it tells much, the ensemble holds it.
    """
    return {
        tier: _order(use_case.methods.of(tier), evidence.tier(tier), k, margin, least_subjects)
        for tier in Tier
    }


def _order(usual: Sequence[Method], evidence: Evidence, k: int, margin: float, least_subjects: int) -> Order:
    if len(evidence) < least_subjects or not evidence.tops:
        return Order(tuple(usual))
    measured = sorted(evidence.tops, key=lambda m: usual.index(m) if m in usual else len(usual))

    def judged(order: Sequence[Method]) -> NDArray[np.float64]:
        return evidence.truth.weighted_ndcg(filled([evidence.tops[m] for m in order], k), k)

    best = [method for method in measured if method is not Method.POPULAR]
    last = [method for method in measured if method is Method.POPULAR]
    start = reached = judged([*best, *last])
    for place in range(len(best) - 1):
        tried = [[*best[:place], m, *(o for o in best[place:] if o is not m)] for m in best[place + 1 :]]
        found = [(order, judged([*order, *last])) for order in tried]
        order, ndcg = max(found, key=lambda each: float(each[1].mean()))
        if surpasses(ndcg, reached, margin):
            best, reached = order, ndcg
    gain, root = reached - start, np.sqrt(len(evidence))
    unmeasured = [method for method in usual if method not in measured]
    methods = tuple(sorted([*best, *unmeasured, *last], key=lambda method: method is Method.POPULAR))
    numbers = (reached.mean(), reached.std() / root, gain.mean(), gain.std() / root)
    return Order(methods, *map(float, numbers))
