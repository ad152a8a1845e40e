"""A market fitted to a data set: what its events say about who likes what, and a rest they do not say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from matchloop.entities import discrete_values
from matchloop.errors import InvalidInput, Violation
from playground.market.clicks import ClickModel
from playground.market.direction import Calibration, Direction
from playground.market.market import Market, MarketEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from matchloop.entities import Entity
    from playground.dataset import Dataset, Interactions

    Floats = NDArray[np.float32]

FACTORS = 3
ESTABLISHED = 0.02
"""Share of the items, by events, among which more events make none likelier to be liked."""

SOUGHT_AFTER = 0.08
"""How much an item beyond that loses as its events grow: who has many suitors answers few."""

TRUST = 0.7
"""How much of a taste with many events is what they say; the rest changed since, drawn among its like."""

SHARPNESS = 3.0
"""How clearly an entity belongs to one of the circles that the factors span."""

CALIBRATION = Calibration(liked=0.20, softness=0.15)
MOST_VALUES = 2000
"""Values of a feature that the fit tells apart; rarer ones are left out."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What the hidden utility is made of: weights of parts of about unit variance.

    Parameters
    ----------
    taste
        Low-rank fit of all events, train and test; for those with few events, a taste drawn among their like.
    profile
        How well the item's values agree with those the subject chose before.
    popularity
        How established the item is, by its events, up to a point: see ESTABLISHED and SOUGHT_AFTER.
    quality
        How good the item is today: what no history shows, the same for everybody.
    """

    taste: float = 3.0
    profile: float = 0.1
    popularity: float = 0.3
    quality: float = 0.4


def fit(dataset: Dataset, use_case_ids: Sequence[str], *, seed: int, now: datetime) -> Market:
    """Build the market of `Market.fitted`.

    Its today is the data set's last day of history: all times are moved by the same span, so that the latest
    event of the train part is a day old. What was recent then is recent now.

    Raises
    ------
    InvalidInput
        The data set lacks a use case, or has too few events to fit.
    """
    violations = [
        Violation("use_case", f"the data set has no `{name}`; it has: {', '.join(dataset.readings)}")
        for name in use_case_ids
        if name not in dataset.readings
    ]
    if violations:
        raise InvalidInput.of(violations)
    rng = np.random.default_rng(seed)
    factors: dict[tuple[str, str], tuple[Floats, Floats]] = {}
    directions = {}
    for name in use_case_ids:
        read = dataset.interactions(name)
        use_case = read.use_case
        turned = factors.get((use_case.item, use_case.subject))
        vectors = (turned[1], turned[0]) if turned else _factors(read, dataset, rng)
        factors[use_case.subject, use_case.item] = vectors
        directions[name] = _direction(read, dataset, vectors, rng)
    readings = [dataset.interactions(name) for name in use_case_ids]
    moved = _span_to(now - timedelta(days=1), readings)
    entities = {
        kind: tuple(
            replace(entity, create_time=min(entity.create_time + moved, now))
            if entity.create_time
            else entity
            for entity in of_kind
        )
        for kind, of_kind in dataset.entities.items()
    }
    return Market(
        entities=entities,
        directions=directions,
        past=_Past(readings, moved).draw,
        seed=seed,
        clicks=ClickModel(strong=0.7),
    )


def _span_to(last: datetime, readings: Sequence[Interactions]) -> timedelta:
    """Return how far the events have to be moved for the latest of the train part to be at `last`."""
    latest = [read.time[read.train].max() for read in readings if read.train.any()]
    if not latest or any(np.isnat(time) for time in latest):
        return timedelta()
    newest: datetime = max(latest).astype(datetime)
    return last - newest.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Past:
    """The train events of the data set, as history, moved in time by `moved`."""

    readings: Sequence[Interactions]
    moved: timedelta

    def draw(self, _rng: np.random.Generator) -> list[MarketEvent]:
        begun = datetime(1970, 1, 1, tzinfo=UTC)
        events = [
            MarketEvent(
                str(read.interaction_id[row]),
                read.use_case.id,
                str(read.subject_id[row]),
                str(read.item_id[row]),
                str(read.event_type[row]),
                (read.time_at(row) or begun) + self.moved,
            )
            for read in self.readings
            for row in np.flatnonzero(read.train).tolist()
        ]
        return sorted(events, key=lambda event: event.event_time)


def _positive(read: Interactions, dataset: Dataset) -> csr_matrix:
    """Return log(1 + events) per pair, rejections left out: sparse (subjects, items)."""
    weight = np.array([read.use_case.events[name].weight for name in read.event_type.tolist()])
    liked = np.maximum(weight, 0.0)
    shape = (len(dataset.entities[read.use_case.subject]), len(dataset.entities[read.use_case.item]))
    matrix = csr_matrix((liked, (read.subject_row, read.item_row)), shape=shape, dtype=np.float64)
    matrix.data = np.log1p(matrix.data)
    return matrix


def _factors(read: Interactions, dataset: Dataset, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return unit vectors of subjects and of items, (n, FACTORS) each, by truncated SVD.

    Rows and columns are scaled by the root of their sums, so that popularity is not the first factor (Dhillon
    2001). Who has few events gets a taste like that of somebody in the same country or category, drawn once.
    """
    matrix = _positive(read, dataset)
    if min(matrix.shape) <= FACTORS + 1 or matrix.nnz <= FACTORS:
        raise InvalidInput.of([Violation("events", f"{matrix.nnz} pairs are too few to fit a market to")])
    rows = np.asarray(matrix.sum(axis=1)).reshape(-1) + 2.0
    columns = np.asarray(matrix.sum(axis=0)).reshape(-1) + 2.0
    scaled = matrix.multiply(1.0 / np.sqrt(rows)[:, None]).multiply(1.0 / np.sqrt(columns)[None, :]).tocsr()
    # In ascending order: the last, largest one is activity, which is no taste.
    left, values, right = svds(scaled, k=FACTORS + 1, rng=rng)
    left, values, right = left[:, :FACTORS], values[:FACTORS], right[:FACTORS]
    strength = np.sqrt(values)
    # A smoothed count says how far the events can be trusted.
    subject = _blend(left * strength, np.diff(matrix.indptr), dataset.entities[read.use_case.subject], rng)
    item = _blend(
        right.T * strength, np.diff(matrix.tocsc().indptr), dataset.entities[read.use_case.item], rng
    )
    return subject, item


def _blend(
    vectors: NDArray[np.float64],
    counts: NDArray[np.int32],
    entities: Sequence[Entity],
    rng: np.random.Generator,
) -> Floats:
    own = _rows_to_unit(vectors)
    known = np.flatnonzero(counts >= 3)
    known = known if len(known) else np.arange(len(counts))
    groups: dict[tuple[str, ...], list[int]] = {}
    keys = [
        tuple(v for name in ("category", "country") for v in discrete_values(entity.features.get(name)))
        for entity in entities
    ]
    for row in known.tolist():
        groups.setdefault(keys[row], []).append(row)
    like = [
        group[int(rng.integers(len(group)))] if (group := groups.get(key)) else int(rng.choice(known))
        for key in keys
    ]
    trust = (TRUST * counts / (counts + 2.0))[:, None]
    blended = _rows_to_unit(trust * own + (1.0 - trust) * own[like])
    place = (blended - blended.mean(axis=0)) / (blended.std(axis=0) + 1e-12)
    drawn = np.exp(SHARPNESS * np.hstack([place, -place]))
    circles: Floats = (drawn / drawn.sum(axis=1, keepdims=True)).astype(np.float32)
    return circles


def _rows_to_unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12)
    return unit


def _direction(
    read: Interactions, dataset: Dataset, vectors: tuple[Floats, Floats], rng: np.random.Generator
) -> Direction:
    use_case = read.use_case
    mix = Mixture()
    # What everybody likes is not taste: without the mean, tastes differ about every item.
    subjects, items = vectors[0] - vectors[0].mean(axis=0), vectors[1]
    counts = np.bincount(read.item_row, minlength=len(items)).astype(np.float64)
    relative = counts / max(1.0, float(np.quantile(counts, 1.0 - ESTABLISHED)))
    popular = np.minimum(relative, 1.0) - SOUGHT_AFTER * np.log(np.maximum(relative, 1.0))
    everybody = mix.popularity * _unit(popular) + mix.quality * rng.standard_normal(len(items))
    shared = everybody.astype(np.float32)
    scale = np.float32(mix.taste / (float((subjects[:512] @ items.T).std()) + 1e-9))
    profile = _Profiles(read, dataset)
    profile_scale = np.float32(mix.profile / (profile.spread() + 1e-9))

    def utility(rows: NDArray[np.intp]) -> Floats:
        total: Floats = scale * (subjects[rows] @ items.T) + profile_scale * profile.of(rows) + shared
        return total

    return Direction(
        use_case,
        dataset.ids[use_case.subject].tolist(),
        dataset.ids[use_case.item].tolist(),
        utility=utility,
        calibration=CALIBRATION,
        activity=np.bincount(read.subject_row[read.train], minlength=len(subjects)).astype(np.int64),
        taste=profile.liked,
        item_values=profile.values,
    )


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = (values - values.mean()) / (values.std() + 1e-12)
    return unit


class _Profiles:
    """How well the items' values (category, country and so on) agree with those that a subject chose."""

    def __init__(self, read: Interactions, dataset: Dataset) -> None:
        entities = dataset.entities[read.use_case.item]
        fields = dict.fromkeys(name for entity in entities for name in entity.features)
        held = [
            {(name, value) for name in fields for value in discrete_values(entity.features.get(name))}
            for entity in entities
        ]
        counted = Counter(pair for pairs in held for pair in pairs)
        self._names = [pair for pair, _ in counted.most_common(MOST_VALUES)]
        column = {pair: place for place, pair in enumerate(self._names)}
        cells = [(row, column[pair]) for row, pairs in enumerate(held) for pair in pairs if pair in column]
        at = np.array(cells, dtype=np.int64).reshape(-1, 2)
        shape = (len(entities), max(1, len(self._names)))
        self._held = csr_matrix((np.ones(len(at), np.float32), (at[:, 0], at[:, 1])), shape=shape)
        events = _positive(read, dataset)
        chosen = events @ self._held
        share = np.asarray(chosen.sum(axis=1)).reshape(-1, 1) + 1.0
        self._chosen = chosen.multiply(1.0 / share).tocsr().astype(np.float32)

    def of(self, rows: NDArray[np.intp]) -> Floats:
        """Return the agreement of subject rows with every item, (n, items)."""
        agreement: Floats = (self._chosen[rows] @ self._held.T).toarray().astype(np.float32)
        return agreement

    def spread(self) -> float:
        """Return the standard deviation over some subjects that chose something."""
        rows = np.flatnonzero(np.diff(self._chosen.indptr))[:256]
        return float(self.of(rows).std()) if len(rows) else 1.0

    def liked(self, row: int, field: str) -> frozenset[str]:
        """Return the values of an item field that the subject chose before."""
        return self._values_at(self._chosen, row, field)

    def values(self, row: int, field: str) -> frozenset[str]:
        """Return the values an item has in a field."""
        return self._values_at(self._held, row, field)

    def _values_at(self, matrix: csr_matrix, row: int, field: str) -> frozenset[str]:
        places = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        named = (self._names[place] for place in places.tolist())
        return frozenset(value for name, value in named if name == field)
