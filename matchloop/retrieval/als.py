"""Implicit-feedback ALS at serving time: stored factors, and fold-in of what came since training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.release.golden import GoldenCase
from matchloop.retrieval.fold_in import NormalEquations, aged, gram_of, saturated
from matchloop.retrieval.graph import Graph
from matchloop.retrieval.part_files import read_array, read_ids, read_json, refusing, write_array, write_json
from matchloop.retrieval.scored import Scored, best_allowed, row_by_id, rows_of, top_k
from matchloop.retrieval.vector_index import EXACT_BELOW

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import EntityId
    from matchloop.retrieval.scored import Hit

GRAPH_FILE = "items.faiss"
NEIGHBOURS = 16
BEAMS = (128, 256, 512)
ENOUGH_RECALL = 0.95
GRAPH_QUERIES = 200
GRAPH_K = 20
"""The graph is searched with the first beam that finds so much of the best 20 for 200 subjects."""


class AlsModel:
    """Factors of `implicit`'s ALS (Hu, Koren, Volinsky 2008) and the normal equations to fold in.

    Convention, equal to implicit 0.7.3: training hands implicit the matrix w of summed positive event
    weights and `alpha`; implicit multiplies, so the confidence of a pair is c = alpha × w (not 1 + alpha ×
    w) and of an absent pair 1. Give the same unscaled weights here.

    Parameters
    ----------
    item_ids
        Distinct, one per row of `item_factors`.
    item_factors
        float32, shape (n_items, f).
    subject_ids
        Distinct, one per row of `subject_factors`.
    subject_factors
        float32, shape (n_subjects, f).
    regularization, alpha
        As given to implicit; 0 or more, over 0.
    half_life_days
        After so many days an event weighed half in training: see `aged`. None: all weigh alike.
    saturation
        Summed (and aged) weight at which a pair's weight begins to grow slower in training: see `saturated`,
        which gives the w of the convention above. None: it does not.
    gram
        YᵀY of the item factors, (f, f), when it is known: a large catalogue's takes seconds.
    graph
        Over the item factors, which are then its vectors; see `build_graph`. None: a search compares all.

    Raises
    ------
    InvalidInput
        If shapes disagree, an id stands twice, or a number is not finite.
    """

    def __init__(
        self,
        item_ids: Sequence[EntityId],
        item_factors: NDArray[np.float32],
        subject_ids: Sequence[EntityId],
        subject_factors: NDArray[np.float32],
        *,
        regularization: float,
        alpha: float = 1.0,
        half_life_days: float | None = None,
        saturation: float | None = None,
        gram: NDArray[np.float64] | None = None,
        graph: Graph | None = None,
    ) -> None:
        _check("item", item_ids, item_factors)
        _check("subject", subject_ids, subject_factors)
        if item_factors.shape[1] != subject_factors.shape[1]:
            raise InvalidInput(
                f"{item_factors.shape[1]} item factors, {subject_factors.shape[1]} of subjects"
            )
        if not (np.isfinite([regularization, alpha]).all() and regularization >= 0.0 and alpha > 0.0):
            raise InvalidInput(f"regularization {regularization} must be 0 or more, alpha {alpha} over 0")
        self.item_ids = list(item_ids)
        self.item_factors = np.ascontiguousarray(item_factors, dtype=np.float32)
        self._graph: Graph | None = None
        if graph is not None:
            self._searched_by(graph)
        self.subject_ids = list(subject_ids)
        self.subject_factors = np.ascontiguousarray(subject_factors, dtype=np.float32)
        if half_life_days is not None and not half_life_days > 0.0:
            raise InvalidInput(f"half_life_days is {half_life_days}, must be over 0")
        if saturation is not None and not saturation > 0.0:
            raise InvalidInput(f"saturation is {saturation}, must be over 0")
        self.regularization = regularization
        self.alpha = alpha
        self.half_life_days = half_life_days
        self.saturation = saturation
        self._item_row = row_by_id(self.item_ids)
        self._subject_row = {id_: row for row, id_ in enumerate(self.subject_ids)}
        self._item_gram = gram_of(self.item_factors) if gram is None else gram
        self._equations = NormalEquations(self._item_gram, regularization)

    @property
    def width(self) -> int:
        """How many factors."""
        return int(self.item_factors.shape[1])

    def item_rows(self, ids: Collection[EntityId]) -> NDArray[np.int64]:
        """Return the rows of those items that were trained on, in the order given."""
        return rows_of(ids, self._item_row)

    def item_row(self, item: EntityId) -> int | None:
        """Return the item's row; None if it was not trained on."""
        return self._item_row.get(item)

    def subject_vector(self, subject: EntityId) -> NDArray[np.float32] | None:
        """Return the trained vector of a subject, shape (f,); None if it was not trained on."""
        row = self._subject_row.get(subject)
        return None if row is None else self.subject_factors[row]

    def aged(self, weights: NDArray[np.floating], age_days: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return what events weigh at their age: w × 2^(−age / half-life), shapes (n,)."""
        return weights if self.half_life_days is None else aged(weights, age_days, self.half_life_days)

    def serving_vector(
        self,
        subject: EntityId | None,
        item_rows: NDArray[np.int64],
        weights: NDArray[np.floating],
        age_days: NDArray[np.floating],
        *,
        whole: bool,
        newer: bool,
    ) -> NDArray[np.float32] | None:
        """Return the vector a subject is served with: folded in, or the trained one when that knows more.

        The one rule for serving and for offline evaluation.

        Parameters
        ----------
        subject
            None: what was trained is not, or no longer, this subject's.
        item_rows, weights, age_days
            Of the events that are known, on items that were trained on, shape (n,); those of negative weight
            too. A pair's weights are summed and age with its latest event, as in the training matrix.
        whole
            Whether these are all the subject ever did: folding in then loses nothing.
        newer
            Whether one of its events came after the training.

        Returns
        -------
        ndarray of float32, shape (f,)
            None when nothing is known of the subject.
        """
        trained = None if subject is None else self.subject_vector(subject)
        if trained is not None and not (whole or newer):
            return trained
        rows = np.asarray(item_rows, dtype=np.int64)
        distinct, place = np.unique(rows, return_inverse=True)
        latest = np.full(len(distinct), np.inf)
        np.minimum.at(latest, place, np.asarray(age_days, dtype=np.float64))
        summed = np.zeros(len(distinct))
        np.add.at(summed, place, np.asarray(weights, dtype=np.float64))
        folded = self._solved(distinct, self.aged(summed, latest))
        return folded if folded.any() else trained

    def fold_in(self, item_rows: NDArray[np.int64], weights: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the vector of a subject that reacted to these items; see `NormalEquations`.

        Parameters
        ----------
        item_rows
            Rows of all items the subject reacted to, shape (n,); a row may stand more than once, its weights
            are then summed, as the training matrix is.
        weights
            Event weights, aged, shape (n,), finite. Those of 0 and less are left out.

        Returns
        -------
        ndarray of float32, shape (f,)
            Zero if nothing positive is left.
        """
        rows, given = np.asarray(item_rows, dtype=np.int64), np.asarray(weights, dtype=np.float64)
        if rows.shape != given.shape or rows.ndim != 1:
            raise InvalidInput(f"item_rows has shape {rows.shape}, weights {given.shape}")
        if not np.isfinite(given).all():
            raise InvalidInput("a weight is not finite")
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self.item_ids)):
            raise InvalidInput(f"an item row is outside 0 to {len(self.item_ids) - 1}")
        positive = given > 0.0
        distinct, place = np.unique(rows[positive], return_inverse=True)
        summed = np.zeros(len(distinct))  # (n,)
        np.add.at(summed, place, given[positive])
        return self._solved(distinct, summed)

    def _solved(self, rows: NDArray[np.int64], summed: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the vector for distinct rows and their summed weights, (n,); of 0 and less: left out."""
        positive = summed > 0.0
        if not positive.any():
            return np.zeros(self.width, dtype=np.float32)
        given = summed[positive]
        confidence = self.alpha * (given if self.saturation is None else saturated(given, self.saturation))
        factors = self.item_factors[rows[positive]].astype(np.float64)  # (n, f)
        return self._equations.solve(factors, confidence).astype(np.float32)

    def scores(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the predicted preference for every item, shape (n_items,)."""
        if vector.shape != (self.width,) or not np.isfinite(vector).all():
            raise InvalidInput(f"the vector must be finite with shape ({self.width},), it has {vector.shape}")
        found: NDArray[np.float32] = self.item_factors @ np.asarray(vector, dtype=np.float32)
        return found

    def search_rows(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        exclude: NDArray[np.int64] | None = None,
    ) -> Scored:
        """Return the `k` best rows by inner product; `exclude` are rows."""
        return top_k(self.scores(vector), k, exclude=exclude)

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        exclude: Collection[EntityId] = (),
        allow: Callable[[EntityId], bool] | None = None,
    ) -> list[Hit]:
        """Return the `k` best items by inner product, best first, fewer only if no more are left.

        A zero vector tells nothing: the result is then empty.
        """
        if not np.any(vector):
            return []
        rows = self.item_rows(exclude)
        if self._graph is not None:
            query = np.ascontiguousarray(vector, dtype=np.float32)
            found = self._graph.best_allowed(query, k, self.item_ids, exclude=rows, allow=allow)
            if found is not None:
                return found
        return best_allowed(self.scores(vector), k, self.item_ids, exclude=rows, allow=allow)

    def build_graph(self, *, exact_below: int = EXACT_BELOW) -> float | None:
        """Let a large catalogue be searched by a graph, which takes minutes for a million items.

        Returns
        -------
        float or None
            Which share of what comparing all finds is found, over subjects trained on, in [0, 1]. None: there
            is no graph, since items are fewer than `exact_below`, or it would find too little.
        """
        subjects = self.subject_factors[self.subject_factors.any(axis=1)]
        if len(self.item_ids) < exact_below or not len(subjects):
            return None
        queries = subjects[:: -(-len(subjects) // GRAPH_QUERIES)]
        best = [set(top_k(self.scores(query), GRAPH_K).item.tolist()) for query in queries]
        graph = Graph(self.width, neighbours=NEIGHBOURS)
        graph.add(self.item_factors)
        for graph.least_beam in BEAMS:
            found = [graph.search(query, GRAPH_K, np.zeros(0, np.int64))[0] for query in queries]
            recall = sum(len(own.intersection(labels)) for own, labels in zip(best, found, strict=True))
            if recall >= ENOUGH_RECALL * GRAPH_K * len(queries):
                self._searched_by(graph)
                return recall / (GRAPH_K * len(queries))
        return None

    def _searched_by(self, graph: Graph) -> None:
        self._graph = graph
        self.item_factors = graph.vectors  # nothing is added any more: the view stays valid

    def answer(self, inputs: Mapping[str, Any]) -> Mapping[str, NDArray[np.float32]]:
        """Answer a golden request.

        Parameters
        ----------
        inputs
            ``items`` (n ids) with ``weights`` (n,), and ``subjects`` (m ids), all trained on.

        Returns
        -------
        mapping
            ``folded`` (n,): preferences for the items of a subject folded in from them; ``trained`` (m × n,):
            those of the subjects, one after the other.

        Raises
        ------
        InvalidInput
            If the model does not hold an item or a subject.
        """
        items, subjects = inputs["items"], inputs["subjects"]
        missing = [id_ for id_ in items if id_ not in self._item_row]
        missing += [id_ for id_ in subjects if id_ not in self._subject_row]
        if missing:
            raise InvalidInput(f"no factors of {', '.join(missing)}")
        rows = self.item_rows(items)
        vector = self.fold_in(rows, np.asarray(inputs["weights"], dtype=np.float64))
        trained = self.subject_factors[rows_of(subjects, self._subject_row)] @ self.item_factors[rows].T
        return {"folded": self.item_factors[rows] @ vector, "trained": trained.ravel()}

    def golden_case(self, rng: np.random.Generator, rows: int = 16) -> GoldenCase:
        """Return a golden request about at most `rows` items and subjects, with this model's answers."""
        items, subjects = (
            [ids[row] for row in rng.choice(len(ids), min(rows, len(ids)), replace=False).tolist()]
            for ids in (self.item_ids, self.subject_ids)
        )
        weights = rng.uniform(0.5, 3.5, len(items)).round(3).tolist()
        inputs = {"items": items, "weights": weights, "subjects": subjects}
        outputs = {name: values.tolist() for name, values in self.answer(inputs).items()}
        return GoldenCase(inputs=inputs, outputs=outputs)

    def save(self, folder: Path) -> None:
        """Write als.json, both lists of ids, both factor arrays, item_gram.npy; the graph if there is one."""
        settings = {
            "factors": self.width,
            "regularization": self.regularization,
            "alpha": self.alpha,
            "half_life_days": self.half_life_days,
            "saturation": self.saturation,
            "beam": None if self._graph is None else self._graph.least_beam,
        }
        write_json(folder, "als", settings)
        write_json(folder, "item_ids", self.item_ids)
        write_json(folder, "subject_ids", self.subject_ids)
        write_array(folder, "item_factors", self.item_factors)
        write_array(folder, "subject_factors", self.subject_factors)
        write_array(folder, "item_gram", self._item_gram)
        if self._graph is not None:
            self._graph.save(folder / GRAPH_FILE, vectors=False)

    @classmethod
    def load(cls, folder: Path) -> AlsModel:
        """Read what `save` wrote.

        Raises
        ------
        ReleaseRefused
            If a file is missing, corrupt, or does not fit the others.
        """
        settings = read_json(folder, "als")
        items, subjects = read_ids(folder, "item_ids"), read_ids(folder, "subject_ids")
        width = settings.get("factors")
        item_factors = read_array(folder, "item_factors", shape=(len(items), width), dtype=np.float32)
        subject_factors = read_array(
            folder, "subject_factors", shape=(len(subjects), width), dtype=np.float32
        )
        gram = None
        if (folder / "item_gram.npy").is_file():  # releases made before have none
            gram = read_array(folder, "item_gram", shape=(width, width), dtype=np.float64)
        graph = None
        with refusing(f"{folder.name}/als.json"):
            if settings.get("beam") is not None:
                graph = Graph.load(
                    folder / GRAPH_FILE, width=int(width or 0), length=len(items), vectors=item_factors
                )
                graph.least_beam = int(settings["beam"])
                item_factors = graph.vectors
            return cls(
                items,
                item_factors,
                subjects,
                subject_factors,
                regularization=float(settings["regularization"]),
                alpha=float(settings["alpha"]),
                half_life_days=settings.get("half_life_days"),
                saturation=settings.get("saturation"),
                gram=gram,
                graph=graph,
            )


def _check(what: str, ids: Sequence[EntityId], factors: NDArray[np.float32]) -> None:
    if factors.ndim != 2 or len(factors) != len(ids):
        raise InvalidInput(f"{len(ids)} {what} ids, {what} factors of shape {factors.shape}")
    if len(set(ids)) != len(ids):
        raise InvalidInput(f"a {what} id stands twice")
    if not np.isfinite(factors).all():
        raise InvalidInput(f"{what} factors hold a number that is not finite")
