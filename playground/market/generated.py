"""A market generated from a seed: kinds with features, and a preference they half explain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from matchloop.entities import (
    Categorical,
    Entity,
    EntityId,
    EntityKey,
    FeatureValue,
    Kind,
    Multi,
    Numeric,
    Text,
    discrete_values,
)
from playground.market import words
from playground.market.direction import Calibration, Direction
from playground.market.market import Market
from playground.market.organic import OrganicHistory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.usecase import UseCase

    Floats = NDArray[np.float64]

CIRCLES = 5
"""Hidden communities: what draws a subject to an item beyond all features."""

CIRCLE_FEATURES = ("role", "type", "skills", "open_positions", "tags", "phase")
TOLD = 0.5
"""Share of a circle's pull that comes from features."""

SHARPNESS = 4.0
"""How clearly an entity belongs to one circle."""

CALIBRATION = Calibration(liked=0.20, softness=0.15)
HISTORY_DAYS = 150


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many entities of each kind, and the mean number of organic events of a subject."""

    developers: int = 400
    investors: int = 300
    startups: int = 500
    events: float = 4.0


@dataclass(frozen=True, slots=True)
class Mixture:
    """What the hidden utility is made of: weights of parts of unit variance.

    Parameters
    ----------
    match
        Fields that agree: content retrieval sees it.
    affinity
        How values of one side take to other values of the other side: in the features, but only learned.
    circle
        Hidden communities: only what others did shows it.
    quality
        How good an item is, for everybody.
    mutual
        The other side's own utility of the pair.
    """

    match: float = 0.4
    affinity: float = 0.5
    circle: float = 2.2
    quality: float = 0.5
    mutual: float = 0.3


def generate(
    use_cases: Mapping[str, UseCase], *, seed: int, now: datetime, sizes: Sizes | None = None
) -> Market:
    """Build the market of `Market.generated`."""
    sizes = sizes or Sizes()
    rng = np.random.default_rng(seed)
    make = _EntityMaker(rng, now)
    entities = {
        "developer": make.seekers("developer", words.DEVELOPER_ROLES, sizes.developers),
        "investor": make.seekers("investor", words.INVESTOR_ROLES, sizes.investors),
        "startup": make.startups(sizes.startups),
    }
    hidden = {kind: _Hidden(rng, found) for kind, found in entities.items()}
    directions: dict[str, Direction] = {}
    for forward, reverse in (
        ("developer_startup", "startup_developer"),
        ("investor_startup", "startup_investor"),
    ):
        directions |= _pair(use_cases[forward], use_cases[reverse], entities, hidden, rng, sizes)
    past = OrganicHistory(
        directions,
        entities,
        now=now,
        days=HISTORY_DAYS,
        exposure={kind: found.exposure for kind, found in hidden.items()},
    )
    return Market(entities=entities, directions=directions, past=past.draw, seed=seed)


class _Hidden:
    """What nobody sees of the entities of one kind: circles (n, CIRCLES), quality (n,), exposure (n,)."""

    def __init__(self, rng: np.random.Generator, entities: Sequence[Entity]) -> None:
        n = len(entities)
        told = np.zeros((n, CIRCLES))
        for name in CIRCLE_FEATURES:
            held = _hot(entities, name)
            if held:
                pull = rng.standard_normal((len(held), CIRCLES))
                told += _unit(np.stack(list(held.values())).T @ pull)
        # Half of it can be read off the features by who knows how, and no field match shows it.
        pulled = np.sqrt(TOLD) * _unit(told) + np.sqrt(1.0 - TOLD) * rng.standard_normal((n, CIRCLES))
        drawn = np.exp(SHARPNESS * pulled)
        self.circles = drawn / drawn.sum(axis=1, keepdims=True)
        self.quality = rng.standard_normal(n)
        # Being seen has little to do with being good: organic popularity misleads.
        self.exposure = np.exp(1.0 * rng.standard_normal(n) + 0.2 * self.quality)


def _pair(
    forward: UseCase,
    reverse: UseCase,
    entities: Mapping[str, Sequence[Entity]],
    hidden: Mapping[str, _Hidden],
    rng: np.random.Generator,
    sizes: Sizes,
) -> dict[str, Direction]:
    """Build a direction and its reverse; each side's own utility is part of the other's."""
    mix = Mixture()
    own: dict[str, Floats] = {}
    for use_case in (forward, reverse):
        subjects, items = entities[use_case.subject], entities[use_case.item]
        circle = hidden[use_case.subject].circles @ hidden[use_case.item].circles.T
        own[use_case.id] = (
            mix.match * _unit(field_match(use_case, subjects, items))
            + mix.affinity * _unit(_affinity(rng, use_case, subjects, items))
            + mix.circle * _unit(circle)
            + mix.quality * hidden[use_case.item].quality
        )
    made = {}
    for use_case, other in ((forward, reverse), (reverse, forward)):
        utility = (own[use_case.id] + mix.mutual * _unit(own[other.id].T)).astype(np.float32)
        activity = _activity(rng, len(entities[use_case.subject]), sizes.events)
        made[use_case.id] = _direction(use_case, entities, utility, activity)
    return made


def _direction(
    use_case: UseCase,
    entities: Mapping[str, Sequence[Entity]],
    utility: NDArray[np.float32],
    activity: NDArray[np.int64],
) -> Direction:
    subjects, items = entities[use_case.subject], entities[use_case.item]
    matched = {match.item: match.subject for match in use_case.match}

    def rows(chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        return utility[chosen]

    def taste(row: int, item_field: str) -> frozenset[str]:
        return frozenset(discrete_values(subjects[row].features.get(matched.get(item_field, ""))))

    def values(row: int, item_field: str) -> frozenset[str]:
        return frozenset(discrete_values(items[row].features.get(item_field)))

    return Direction(
        use_case,
        [str(entity.key.id) for entity in subjects],
        [str(entity.key.id) for entity in items],
        utility=rows,
        calibration=CALIBRATION,
        activity=activity,
        taste=taste,
        item_values=values,
    )


def _activity(rng: np.random.Generator, n: int, mean: float) -> NDArray[np.int64]:
    """Draw organic events per subject: many have few, some have many, about one in eight has none."""
    drawn = rng.lognormal(np.log(mean) - 0.32, 0.8, size=n)
    return np.where(rng.random(n) < 0.12, 0, np.maximum(1, np.round(drawn))).astype(np.int64)


def field_match(use_case: UseCase, subjects: Sequence[Entity], items: Sequence[Entity]) -> Floats:
    """Return the weighted share of the subject's values that the item has, (subjects, items)."""
    total = np.zeros((len(subjects), len(items)))
    for match in use_case.match:
        theirs, ours = _hot(subjects, match.subject), _hot(items, match.item)
        shared = sorted(theirs.keys() & ours.keys())
        if shared:
            left, right = np.stack([theirs[v] for v in shared]), np.stack([ours[v] for v in shared])
            held = np.maximum(1.0, sum(theirs.values(), np.zeros(len(subjects))))
            total += match.weight * (left.T @ right) / held[:, None]
    return total


def _affinity(
    rng: np.random.Generator, use_case: UseCase, subjects: Sequence[Entity], items: Sequence[Entity]
) -> Floats:
    """Return hidden sympathies between values of different fields: role and type, skills and field."""
    total = np.zeros((len(subjects), len(items)))
    names = {"startup": ("type", "field", "stages"), "developer": ("role", "skills", "stages")}
    names["investor"] = ("role", "fields", "stages")
    for left_name in names[use_case.subject]:
        for right_name in names[use_case.item]:
            left, right = _hot(subjects, left_name), _hot(items, right_name)
            sympathy = rng.standard_normal((len(left), len(right)))
            part = np.stack(list(left.values())).T @ sympathy @ np.stack(list(right.values()))
            total += _unit(part)
    return total


def _hot(entities: Sequence[Entity], name: str) -> dict[str, Floats]:
    """Return one indicator (entities,) per value of a discrete feature, in order of value."""
    held = [discrete_values(entity.features.get(name)) for entity in entities]
    return {
        value: np.array([float(value in values) for values in held])
        for value in sorted({value for values in held for value in values})
    }


def _unit(part: Floats) -> Floats:
    """Scale to mean 0 and variance 1 over all pairs."""
    scaled: Floats = (part - part.mean()) / (part.std() + 1e-12)
    return scaled


class _EntityMaker:
    """Draws entities with the specification's features."""

    def __init__(self, rng: np.random.Generator, now: datetime) -> None:
        self._rng = rng
        self._now = now

    def _pick(self, values: Sequence[str], most: int) -> tuple[str, ...]:
        n = int(self._rng.integers(1, most + 1))
        return tuple(
            str(value) for value in self._rng.choice(values, size=min(n, len(values)), replace=False)
        )

    def _one(self, values: Sequence[str]) -> str:
        return str(values[int(self._rng.integers(len(values)))])

    def _entity(self, kind: str, number: int, features: dict[str, FeatureValue]) -> Entity:
        age = timedelta(seconds=int(self._rng.exponential(70 * 86400)) + 86400)
        return Entity(
            EntityKey(Kind(kind), EntityId(f"{kind}-{number:04d}")), features, create_time=self._now - age
        )

    def seekers(self, kind: str, roles: Sequence[str], n: int) -> tuple[Entity, ...]:
        """Draw developers or investors."""
        made = []
        for number in range(n):
            categories = self._pick(tuple(words.CATEGORIES), 3)
            fields = [field for category in categories for field in words.CATEGORIES[category]]
            tags = sorted({tag for category in categories for tag in words.TAGS[category]})
            stage = int(self._rng.integers(len(words.STAGES) - 1))
            role = self._one(roles)
            name = (
                f"{self._one(words.FIRST)} {self._one(words.LAST)}, {role}, into {' and '.join(categories)}"
            )
            features: dict[str, FeatureValue] = {
                "name": Text(name),
                "role": Categorical(role),
                "country": Categorical(self._one(words.COUNTRIES)),
                "categories": Multi(categories),
                "fields": Multi(self._pick(fields, 3)),
                "tags": Multi(self._pick(tags, 4)),
                "stages": Multi(words.STAGES[stage : stage + 2]),
                "skills": Multi(self._pick(words.SKILLS, 4)),
            }
            made.append(self._entity(kind, number, features))
        return tuple(made)

    def startups(self, n: int) -> tuple[Entity, ...]:
        """Draw startups."""
        founders = [f"{first} {last}" for first in words.FIRST for last in words.LAST]
        stage_pairs = list(pairwise(words.STAGES))
        made = []
        for number in range(n):
            category = self._one(tuple(words.CATEGORIES))
            field = self._one(words.CATEGORIES[category])
            stages = stage_pairs[int(self._rng.integers(len(stage_pairs)))]
            type_ = self._one(words.TYPES)
            name = f"{self._one(words.BRANDS)}{self._one(words.ENDINGS)}: {field} {type_} for {category}"
            founded = self._now.year - int(self._rng.integers(0, 7))
            features: dict[str, FeatureValue] = {
                "name": Text(name),
                "type": Categorical(type_),
                "category": Categorical(category),
                "field": Categorical(field),
                "phase": Categorical(stages[0]),
                "country": Categorical(self._one(words.COUNTRIES)),
                "tags": Multi(self._pick(words.TAGS[category], 3)),
                "stages": Multi(stages),
                "open_positions": Multi(self._pick(words.SKILLS, 3)),
                "team": Multi(self._pick(founders, 3)),
                "founded_year": Numeric(float(founded)),
            }
            made.append(self._entity("startup", number, features))
        return tuple(made)
