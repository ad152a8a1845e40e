"""Is the simulated market learnable? Policies play rounds against it, without any service.

An order that knows the hidden truth bounds what can be had. A model retrained on its own feedback must come
closer to it round by round, and stay above the same model left untrained, popularity, content and chance.

``python -m benchmarks.market [FOLDER USE_CASE...] --out FILE.json``
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import typer
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from benchmarks.report import Out, about, write_report
from matchloop.usecase import load_use_cases
from playground.dataset import read_dataset
from playground.market import Market, RoundScore, Shown, score_round

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from playground.market.direction import Direction

    Scores = NDArray[np.float32]

FACTORS, REGULARIZATION, ALPHA, ITERATIONS = 16, 2.0, 4.0, 10
POLICIES = ("oracle", "als_retrained", "als_frozen", "content", "popular", "random")


class Play:
    """One policy's own course of the market: its feedback and nobody else's.

    Parameters
    ----------
    market, use_case
        What is played.
    history
        Positive event weights before the first list, sparse (subjects, items).
    settled
        Pairs that may not be shown again, as (subject row, item row).
    """

    def __init__(
        self, market: Market, use_case: str, history: csr_matrix, settled: set[tuple[int, int]], policy: str
    ) -> None:
        self.market, self.use_case, self.policy = market, use_case, policy
        self.direction: Direction = market.direction(use_case)
        self.weights = history
        self.settled = set(settled)
        self._frozen = als_of(history) if policy == "als_frozen" else None

    def scores(self, rows: NDArray[np.intp], rng: np.random.Generator) -> Scores:
        """Score every item for subject rows (n,): (n, items)."""
        deciding: dict[str, Callable[[], Scores]] = {
            "oracle": lambda: self.direction.preferences(rows),
            "als_retrained": lambda: self._folded(als_of(self.weights), rows),
            "als_frozen": lambda: self._folded(self._frozen, rows),
            "popular": lambda: np.tile(self._popular(), (len(rows), 1)),
            "content": lambda: self._content(rows),
            "random": lambda: rng.random((len(rows), len(self.direction.item_ids)), dtype=np.float32),
        }
        return deciding[self.policy]()

    def _popular(self) -> Scores:
        counted: Scores = np.asarray(self.weights.sum(axis=0)).reshape(-1).astype(np.float32)
        counted /= counted.max() + 1.0
        return counted

    def _content(self, rows: NDArray[np.intp]) -> Scores:
        """Share of the subject's own values that the item has, field by field; popularity breaks ties."""
        direction = self.direction
        total = np.tile(1e-3 * self._popular(), (len(rows), 1))
        for match in direction.use_case.match:
            held = [direction.item_values(item, match.item) for item in range(len(direction.item_ids))]
            values = {v: i for i, v in enumerate(sorted({v for vs in held for v in vs}))}
            if not values:
                continue
            items = np.zeros((len(held), len(values)), np.float32)
            for item, owned in enumerate(held):
                items[item, [values[v] for v in owned]] = 1.0
            subjects = np.zeros((len(rows), len(values)), np.float32)
            for i, row in enumerate(rows.tolist()):
                liked = direction.taste(row, match.item)
                subjects[i, [values[v] for v in liked if v in values]] = match.weight / max(1, len(liked))
            total += subjects @ items.T
        return total

    def _folded(self, model: AlternatingLeastSquares, rows: NDArray[np.intp]) -> Scores:
        known = self.weights[rows]
        vectors = model.recalculate_user(np.arange(len(rows)), (known * ALPHA).astype(np.float32))
        scores: Scores = vectors @ model.item_factors.T
        return scores + 1e-3 * self._popular()

    def round_(self, panel: Sequence[str], number: int, k: int, rng: np.random.Generator) -> RoundScore:
        """Show one list of `k` to each subject, take the reactions in, return the score."""
        direction = self.direction
        rows = np.array([direction.subject_row[name] for name in panel], dtype=np.intp)
        scores = self.scores(rows, rng)
        place = {int(row): i for i, row in enumerate(rows)}
        hidden = [(place[s], i) for s, i in self.settled if s in place]
        if hidden:
            scores[tuple(np.array(hidden).T)] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        lists = [
            Shown(name, tuple(direction.item_ids[item] for item in order))
            for name, order in zip(panel, best.tolist(), strict=True)
        ]
        happened = self.market.play(self.use_case, lists, number)
        excluded: dict[str, set[str]] = {name: set() for name in panel}
        for i, item in hidden:
            excluded[panel[i]].add(direction.item_ids[item])
        score = score_round(
            self.market,
            self.use_case,
            lists,
            happened,
            excluded={name: frozenset(items) for name, items in excluded.items()},
            rng=rng,
        )
        told = self.market.told(self.use_case, happened, len(lists))
        self._learn([(r.subject_id, r.item_id, r.event_type) for reacted in told for r in reacted])
        return score

    def _learn(self, events: Sequence[tuple[str, str, str]]) -> None:
        fresh, settled = tally(self.direction, events)
        self.weights = (self.weights + fresh).tocsr()
        self.settled |= settled


def tally(
    direction: Direction, events: Sequence[tuple[str, str, str]]
) -> tuple[csr_matrix, set[tuple[int, int]]]:
    """Return summed positive weights, and the pairs settled by a strong positive or a dislike."""
    use_case = direction.use_case
    s = np.array([direction.subject_row[subject] for subject, _, _ in events], dtype=np.int64)
    i = np.array([direction.item_row[item] for _, item, _ in events], dtype=np.int64)
    w = np.array([max(0.0, use_case.events[type_].weight) for _, _, type_ in events], dtype=np.float32)
    final = use_case.strong_events | {use_case.dislike_event}
    settled = {(int(a), int(b)) for a, b, (_, _, type_) in zip(s, i, events, strict=True) if type_ in final}
    shape = (len(direction.subject_ids), len(direction.item_ids))
    matrix = csr_matrix((w, (s, i)), shape=shape)
    matrix.eliminate_zeros()
    return matrix, settled


def als_of(weights: csr_matrix, *, factors: int | None = None) -> AlternatingLeastSquares:
    """Train ALS on summed event weights, sparse (subjects, items), with the settings above."""
    model = AlternatingLeastSquares(
        factors=factors or FACTORS,
        regularization=REGULARIZATION,
        iterations=ITERATIONS,
        num_threads=1,
        random_state=0,
        alpha=1.0,
    )
    model.fit((weights * ALPHA).tocsr().astype(np.float32), show_progress=False)
    return model


def study(
    market: Market,
    use_case: str,
    *,
    seed: int = 0,
    subjects: int = 300,
    rounds: int = 5,
    k: int = 10,
    policies: Sequence[str] = POLICIES,
) -> dict[str, list[RoundScore]]:
    """Play every policy on the same subjects and random numbers; return its score by round."""
    past = [event for event in market.history(np.random.default_rng(seed)) if event.use_case == use_case]
    history, settled = tally(
        market.direction(use_case), [(e.subject_id, e.item_id, e.event_type) for e in past]
    )
    panel = market.panel(use_case, subjects, np.random.default_rng(seed + 1))
    result = {}
    for policy in policies:
        rng = np.random.default_rng(seed + 2)
        with threadpool_limits(limits=1, user_api="blas"):
            play = Play(market, use_case, history, settled, policy)
            result[policy] = [play.round_(panel, number, k, rng) for number in range(1, rounds + 1)]
    return result


def main(
    folder: Annotated[Path | None, typer.Argument(help="a data set; left out: the generated market")] = None,
    use_cases: Annotated[list[str] | None, typer.Argument(help="a forward and its reverse")] = None,
    out: Out = None,
    seed: int = 0,
    rounds: int = 5,
    subjects: int = 300,
) -> None:
    """Play the policies and print click rate and NDCG by round."""
    known, told = load_use_cases(), about()
    started = time.perf_counter()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    if folder is None:
        market = Market.generated(known, seed=seed, now=now)
    else:
        data = read_dataset(folder, known)
        market = Market.fitted(data, use_cases or list(data.readings), seed=seed, now=now)
    print(f"market ready in {time.perf_counter() - started:.1f} s")
    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in use_cases or list(market.use_cases):
        scores = study(market, name, seed=seed, rounds=rounds, subjects=subjects)
        figures[name] = {policy: [asdict(score) for score in found] for policy, found in scores.items()}
        print(name)
        for policy, found in scores.items():
            clicks = "  ".join(f"{s.click_rate:.3f}" for s in found)
            ndcg = "  ".join(f"{s.ndcg:.2f}" for s in found)
            last = found[-1]
            print(
                f"  {policy:14} {clicks}   [{last.low:.3f} {last.high:.3f}]  ndcg {ndcg}"
                f"  strong {last.strong_positive_rate:.3f} dislike {last.dislike_rate:.3f}"
            )
    write_report(out, told, figures)


if __name__ == "__main__":
    typer.run(main)
