"""Small catalogues in which every reason of a use case has something to act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matchloop.entities import Categorical, Entity, EntityId, EntityKey, FeatureValue, Kind, Multi, Text
from matchloop.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items of a use case, and somebody who looks for some of them.

    Parameters
    ----------
    title
        The item feature that people know it by.
    subject
        Features of whoever asks.
    liked
        Item ids that it liked before, at one time. They have its own values in equal parts, so that what it
        looks for stays the same while its reactions grow old, and a change is the dislike's alone.
    disliked
        The item it then rejects.
    """

    use_case: str
    title: str
    items: tuple[Entity, ...]
    subject: Mapping[str, FeatureValue]
    liked: tuple[str, ...]
    disliked: str

    @property
    def by_id(self) -> dict[str, Entity]:
        """Items by id."""
        return {item.key.id: item for item in self.items}

    def name(self, item_id: str) -> str:
        """Return what people know an item by."""
        value = self.by_id[item_id].features[self.title]
        return value.value if isinstance(value, Text) else item_id


def catalogue_of(use_case: str) -> Catalogue:
    """Return the catalogue of a use case.

    Raises
    ------
    InvalidInput
        If there is none.
    """
    if use_case not in CATALOGUES:
        raise InvalidInput(
            f"no catalogue to show dislikes on for `{use_case}`; there are: {', '.join(CATALOGUES)}"
        )
    return CATALOGUES[use_case]


def _film(id_: str, title: str, genres: str, cast: str, series: str = "", language: str = "en") -> Entity:
    features: dict[str, FeatureValue] = {
        "title": Text(title),
        "genres": Multi(tuple(genres.split())),
        "cast": Multi(tuple(cast.split(", "))),
        "language": Categorical(language),
    }
    if series:
        features["series"] = Categorical(series)
    return Entity(EntityKey(Kind("movie"), EntityId(id_)), features)


def _startup(id_: str, name: str, category: str, country: str, stages: str, team: str) -> Entity:
    features: dict[str, FeatureValue] = {
        "name": Text(name),
        "category": Categorical(category),
        "country": Categorical(country),
        "stages": Multi(tuple(stages.split())),
        "team": Multi(tuple(team.split(", "))),
    }
    return Entity(EntityKey(Kind("startup"), EntityId(id_)), features)


_FILMS = Catalogue(
    use_case="user_movie",
    title="title",
    items=(
        _film("f1", "Harbour Lights", "thriller", "Mara Lind", "harbour"),
        _film("f2", "Harbour Nights", "thriller", "Mara Lind", "harbour"),
        _film("f3", "Harbour Dawn", "thriller", "Mara Lind, Olga Reyes", "harbour"),
        _film("f4", "The Glass Tower", "thriller drama", "Ines Roth"),
        _film("f5", "Night Train", "thriller", "Ines Roth"),
        _film("f6", "Low Tide", "drama", "Mara Lind", language="sv"),
        _film("f7", "Harbour Songs", "musical", "Olga Reyes", "harbour"),
        _film("f8", "Two Left Feet", "comedy", "Ivo Bern", "feet"),
        _film("f9", "Three Left Feet", "comedy", "Ivo Bern", "feet"),
        _film("f10", "Paper Boats", "animation", "Olga Reyes"),
    ),
    subject={"genres": Multi(("thriller", "comedy"))},
    liked=("f1", "f8"),
    disliked="f2",
)

_STARTUPS = Catalogue(
    use_case="investor_startup",
    title="name",
    items=(
        _startup("s1", "Fjord Power", "climate", "SE", "seed", "Ada Berg"),
        _startup("s2", "Clinic Cloud", "health", "SE", "series_a", "Per Holm"),
        _startup("s3", "Wind Ledger", "climate", "SE", "seed", "Ada Berg"),
        _startup("s4", "Heat Loop", "climate", "SE", "seed", "Ada Berg, Noa Petit"),
        _startup("s5", "Soil Sense", "climate", "DE", "seed", "Lea Vogt"),
        _startup("s6", "Tidal Works", "climate", "SE", "series_b", "Lea Vogt"),
        _startup("s7", "Ferry Pay", "fintech", "SE", "seed series_b", "Ada Berg"),
        _startup("s8", "Ward Watch", "health", "NO", "series_a", "Per Holm"),
        _startup("s9", "Desk Games", "games", "FR", "series_b", "Noa Petit"),
    ),
    subject={
        "categories": Multi(("climate", "health")),
        "stages": Multi(("seed", "series_a")),
        "country": Categorical("SE"),
    },
    liked=("s1", "s2"),
    disliked="s3",
)

CATALOGUES: Mapping[str, Catalogue] = {each.use_case: each for each in (_FILMS, _STARTUPS)}
