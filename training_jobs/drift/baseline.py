"""``drift.json`` of a release: how the lists it was trained on were spread over features and score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from matchloop.errors import ReleaseRefused
from training_jobs.drift.psi import Bins, Chance, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from training_jobs.drift.lists import Lists

DRIFT_FILE = "drift.json"
SCORE = "score"
"""The final score, beside the ranking features."""
BINS = 10


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reference(_Frozen):
    """How one feature was spread.

    Parameters
    ----------
    edges
        Upper edges of all bins but the last, rising; a value on an edge is in the bin below it.
    counts, shares
        Of each bin: items shown, and as a share of all.
    chance_mean, chance_norm
        What the sample's smallness makes of a PSI; see `Chance`.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[float, ...]
    shares: tuple[float, ...]
    chance_mean: Annotated[float, Field(ge=0.0)]
    chance_norm: Annotated[float, Field(ge=0.0)]

    @property
    def bins(self) -> Bins:
        """The bins."""
        return Bins(np.array(self.edges, dtype=np.float64))

    @property
    def tally(self) -> Tally:
        """The sample in these bins."""
        return Tally(np.array(self.counts, dtype=np.float64), Chance(self.chance_mean, self.chance_norm))

    @classmethod
    def of(cls, name: str, values: NDArray[np.float64], subject: NDArray[np.int64]) -> Reference:
        """Cut the values, (n,) finite, into bins of about equal shares, and count."""
        bins = Bins.quantiles(values, BINS)
        tally = bins.tally(values, subject)
        return cls(
            name=name,
            edges=tuple(bins.edges.tolist()),
            counts=tuple(tally.counts.tolist()),
            shares=tuple(tally.shares.tolist()),
            chance_mean=tally.chance.mean,
            chance_norm=tally.chance.norm,
        )


class Baseline(_Frozen):
    """What served lists are held against.

    Parameters
    ----------
    lists, subjects, items
        How many lists it rests on, shown to how many, holding how many items.
    first, last
        When these lists were served.
    features
        The ranking features in the use case's order, then `SCORE`.
    """

    lists: Annotated[int, Field(ge=1)]
    subjects: Annotated[int, Field(ge=1)]
    items: Annotated[int, Field(ge=1)]
    first: AwareDatetime | None
    last: AwareDatetime | None
    features: tuple[Reference, ...]

    @classmethod
    def of(cls, lists: Lists) -> Baseline | None:
        """Count served lists; None when there are none."""
        if not len(lists):
            return None
        references = (Reference.of(name, values, lists.subject) for name, values in columns_of(lists))
        return cls(
            lists=len(lists),
            subjects=lists.subjects,
            items=len(lists.score),
            first=lists.first,
            last=lists.last,
            features=tuple(references),
        )

    def write(self, folder: Path) -> Path:
        """Write ``drift.json`` into `folder` and return its path."""
        path = folder / DRIFT_FILE
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> Baseline | None:
        """Read it from a release's folder; None for a release that has none.

        Raises
        ------
        ReleaseRefused
            If the file is not what it should be.
        """
        path = folder / DRIFT_FILE
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ReleaseRefused(f"{DRIFT_FILE}: {error}") from error


def columns_of(lists: Lists) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Give each feature's values by name, then the final score's, (n,) each."""
    for column, name in enumerate(lists.names):
        yield name, lists.features[:, column].astype(np.float64)
    yield SCORE, lists.score.astype(np.float64)
