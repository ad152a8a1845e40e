"""Candidates that are truly better or worse than their champion, and what the gates get to see of it.

Rounds of a simulated market as in the demo: a champion's lists are shown to a panel, the market reacts, some
subjects find items by themselves, and candidates are trained on all but the latest events. One is trained as
it should be; the others have a fault. Which is truly better, the hidden preferences say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from benchmarks.market import ALPHA, als_of, tally
from matchloop.position import Weighting, exposure_weight
from playground.market import Shown
from training_jobs.evaluate import ItemKnn, Truth, truth_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from implicit.als import AlternatingLeastSquares
    from numpy.typing import NDArray

    from playground.market import Market
    from playground.market.direction import Direction

K = 10
VALIDATION = 0.1
ORGANIC = 0.1
"""Share of the subjects' organic activity that comes with every round."""

FAULTS = ("none", "half", "stale", "coarse", "scrambled", "broken")
"""``half``: trained on half of the events. ``stale``: on what was before round 1. ``coarse``: four factors.
``scrambled``: a fifth of the items have another's factors; ``broken``: half of them."""

Event = tuple[str, str, str]
"""Subject, item, event type."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate against its champion.

    Parameters
    ----------
    worth, gain
        The champion's true NDCG@10 against the hidden preferences; the candidate's over it, less 1.
    shown, organic
        NDCG@10 of candidate, champion and chance, (3, n), by the latest lists and by what subjects found
        themselves.
    lift, champion_lift
        NDCG@10 over the whole catalogue of the candidate and of item neighbours trained on the same events,
        (2, n), by all that came after; and the same of the champion, when it was a candidate.
    """

    seed: int
    use_case: str
    round: int
    fault: str
    worth: float
    gain: float
    shown: NDArray[np.float64]
    organic: NDArray[np.float64]
    lift: NDArray[np.float64]
    champion_lift: NDArray[np.float64]


Rule = Callable[[Trial], bool]
"""Whether a candidate passes."""


@dataclass(slots=True)
class World:
    """One market in one direction, with what has happened so far, oldest first.

    `lists` and `later` hold numbers of events: of each list's reactions, and of organic events, in order.
    """

    market: Market
    use_case: str
    panel: list[str]
    events: list[Event]
    start: int

    @property
    def direction(self) -> Direction:
        """The direction that is played."""
        return self.market.direction(self.use_case)

    def weights(self, events: Sequence[Event]) -> tuple[sparse.csr_matrix, set[tuple[int, int]]]:
        """Return summed positive weights and settled pairs of `events`."""
        return tally(self.direction, events)


def trials(
    market: Market, use_case: str, *, seed: int, rounds: int, subjects: int, rule: Rule | None = None
) -> Iterator[Trial]:
    """Play rounds and yield their trials.

    Parameters
    ----------
    rule
        Decides whether the round's candidate becomes champion; every third candidate, on average, has a
        fault. None: there is a candidate for every fault, and the truly best becomes the next champion.
    """
    rng = np.random.default_rng(seed)
    past = [e for e in market.history(rng) if e.use_case == use_case]
    events = [(e.subject_id, e.item_id, e.event_type) for e in past]
    world = World(market, use_case, market.panel(use_case, subjects, rng), events, len(events))
    champion = als_of(world.weights(world.events)[0])
    early, late = parted(world.events)
    lead = lift(world, als_of(world.weights(early)[0]), early, late)
    for number in range(1, rounds + 1):
        since = len(world.events)
        lists = show(world, champion, number, rng)
        known, latest = parted(world.events)
        evidence = Evidence.of(world, lists, max(len(known), since), known)
        worth = true_ndcg(world, champion)
        faults = FAULTS if rule is None else (_drawn(np.random.default_rng([seed, number, 1])),)
        best, most, best_lead = champion, 0.0, lead
        for fault in faults:
            tried = faulty(world, known, fault, np.random.default_rng([seed, number]))
            released = faulty(world, world.events, fault, np.random.default_rng([seed, number]))
            gain = true_ndcg(world, released) / worth - 1.0
            own = lift(world, tried, known, latest)
            shown, organic = evidence.compared(tried, champion)
            trial = Trial(seed, use_case, number, fault, worth, gain, shown, organic, own, lead)
            yield trial
            if gain > most if rule is None else rule(trial):
                best, most, best_lead = released, gain, own
        champion, lead = best, best_lead


def _drawn(rng: np.random.Generator) -> str:
    return FAULTS[rng.integers(1, len(FAULTS))] if rng.random() < 1 / 3 else FAULTS[0]


def parted(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """Return the events to train on, and the latest ones."""
    cut = round((1.0 - VALIDATION) * len(events))
    return events[:cut], events[cut:]


def lift(
    world: World, model: AlternatingLeastSquares, known: list[Event], latest: list[Event]
) -> NDArray[np.float64]:
    """Return NDCG@10 over the whole catalogue of a model and of item neighbours, (2, n), by the latest."""
    before, after = world.weights(known)[0], world.weights(latest)[0]
    pairs, fresh = before.nonzero(), after.nonzero()
    truth = truth_of((fresh[0], fresh[1]), (pairs[0], pairs[1]), before.shape)
    scores = folded(model, before[truth.subjects])
    knn = ItemKnn.fit(pairs[0], pairs[1], before.shape).top(before[truth.subjects], truth, K)
    tops = (truth.best(scores, slice(0, len(truth)), K), knn)
    return np.array([truth.metrics(top, K)[f"ndcg@{K}"] for top in tops])


def faulty(
    world: World, events: Sequence[Event], fault: str, rng: np.random.Generator
) -> AlternatingLeastSquares:
    """Train on `events` with one of `FAULTS`."""
    if fault == "half":
        events = [events[n] for n in np.flatnonzero(rng.random(len(events)) < 0.5).tolist()]
    if fault == "stale":
        events = events[: world.start]
    model = als_of(world.weights(events)[0], factors=4 if fault == "coarse" else None)
    share = {"scrambled": 0.2, "broken": 0.5}.get(fault, 0.0)
    moved = np.flatnonzero(rng.random(len(model.item_factors)) < share)
    model.item_factors[moved] = model.item_factors[rng.permutation(moved)]
    return model


def folded(model: AlternatingLeastSquares, weights: sparse.csr_matrix) -> NDArray[np.float32]:
    """Return scores (n, items) of the subjects with these rows of weights (n, items), folded in."""
    vectors = model.recalculate_user(np.arange(weights.shape[0]), (weights * ALPHA).astype(np.float32))
    scores: NDArray[np.float32] = vectors @ model.item_factors.T
    return scores


def show(
    world: World, champion: AlternatingLeastSquares, number: int, rng: np.random.Generator
) -> list[tuple[str, tuple[str, ...], int]]:
    """Show the panel the champion's lists; return (subject, items, number of its first event) by list.

    Organic events come between the lists.
    """
    direction = world.direction
    rows = np.array([direction.subject_row[name] for name in world.panel])
    weights, settled = world.weights(world.events)
    scores = folded(champion, weights[rows])
    place = {row: at for at, row in enumerate(rows.tolist())}
    hidden = [(place[s], i) for s, i in settled if s in place]
    scores[tuple(np.array(hidden).T)] = -np.inf
    top = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    shown = [
        Shown(name, tuple(direction.item_ids[item] for item in items))
        for name, items in zip(world.panel, top.tolist(), strict=True)
    ]
    told = world.market.told(world.use_case, world.market.play(world.use_case, shown, number), len(shown))
    found = [
        (e.subject_id, e.item_id, e.event_type)
        for e in world.market.history(rng)
        if e.use_case == world.use_case and rng.random() < ORGANIC
    ]
    lists = []
    for at, (one, reacted) in enumerate(zip(shown, told, strict=True)):
        lists.append((one.subject_id, one.item_ids, len(world.events)))
        world.events += [(r.subject_id, r.item_id, r.event_type) for r in reacted]
        world.events += found[at :: len(shown)]
    return lists


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gates may look at: the latest lists and organic pairs, and what is known of the subjects."""

    shown: Truth
    organic: Truth
    known: sparse.csr_matrix

    @classmethod
    def of(
        cls,
        world: World,
        lists: Sequence[tuple[str, tuple[str, ...], int]],
        cut: int,
        known: Sequence[Event],
    ) -> Evidence:
        """Gather what came from event `cut` on."""
        direction, use_case = world.direction, world.direction.use_case
        shape = (len(direction.subject_ids), len(direction.item_ids))
        ends = [*(first for _, _, first in lists[1:]), len(world.events)]
        gain, showed, organic = (sparse.lil_matrix(shape, dtype=np.float32) for _ in range(3))
        liked = {n for n, e in use_case.events.items() if e.weight > 0 and n not in use_case.view_events}
        for (subject, items, first), end in zip(lists, ends, strict=True):
            row, rank = direction.subject_row[subject], {item: at + 1 for at, item in enumerate(items)}
            if first < cut:
                continue
            for item in items:
                showed[row, direction.item_row[item]] = 1.0
            for who, item, type_ in world.events[first:end]:
                column = direction.item_row[item]
                if who == subject and item in rank and type_ in liked:
                    gain[row, column] = exposure_weight(rank[item], Weighting.INVERSE)
                elif who != subject and use_case.events[type_].weight > 0:
                    organic[direction.subject_row[who], column] = 1.0
        weights, _ = world.weights(known)
        return cls(_truth(gain, showed.tocsr()), _truth(organic, None, weights), weights)

    def compared(
        self, candidate: AlternatingLeastSquares, champion: AlternatingLeastSquares
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return NDCG@10 of both and of chance, (3, n), by lists and by organic pairs."""
        both = []
        for truth in (self.shown, self.organic):
            found = []
            for model in (candidate, champion):
                scores = folded(model, self.known[truth.subjects])
                top = truth.best(scores, slice(0, len(truth)), K)
                found.append(truth.weighted_ndcg(top, K))
            found.append(truth.chance_ndcg(K))
            both.append(np.array(found))
        return both[0], both[1]


def _truth(
    gain: sparse.lil_matrix, shown: sparse.csr_matrix | None, seen: sparse.csr_matrix | None = None
) -> Truth:
    relevant = gain.tocsr()
    if seen is not None:
        relevant = (relevant - relevant.multiply(seen > 0)).tocsr()
        relevant.eliminate_zeros()
    subjects = np.flatnonzero(np.diff(relevant.indptr) > 0).astype(np.int64)
    nothing = sparse.csr_matrix((len(subjects), gain.shape[1]), dtype=np.float32)
    before = nothing if seen is None else seen[subjects]
    return Truth(subjects, relevant[subjects], before, None if shown is None else shown[subjects])


def true_ndcg(world: World, model: AlternatingLeastSquares) -> float:
    """Return the panel's mean NDCG@10 against the hidden preferences, of the lists it would be shown next."""
    direction = world.direction
    weights, settled = world.weights(world.events)
    rows = np.array([direction.subject_row[name] for name in world.panel])
    scores, preference = folded(model, weights[rows]), direction.preferences(rows).astype(np.float64).copy()
    place = {row: at for at, row in enumerate(rows.tolist())}
    hidden = [(place[s], i) for s, i in settled if s in place]
    scores[tuple(np.array(hidden).T)] = -np.inf
    preference[tuple(np.array(hidden).T)] = 0.0
    top = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    discount = 1.0 / np.log2(np.arange(2, K + 2))
    ideal = -np.sort(-preference, axis=1)[:, :K] @ discount
    return float((np.take_along_axis(preference, top, axis=1) @ discount / ideal).mean())
