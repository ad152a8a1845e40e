"""One direction of a market: who looks for what, and the preference that nobody outside the market knows."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from playground.market.chance import hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from matchloop.usecase import UseCase

    Utility = Callable[[NDArray[np.intp]], NDArray[np.float32]]
    Taste = Callable[[int, str], frozenset[str]]
    ItemValues = Callable[[int, str], frozenset[str]]

CACHED_VALUES = 16_000_000
"""Hidden preferences kept in memory: 64 MB."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How utility becomes preference.

    Parameters
    ----------
    liked
        Share of the items that a subject would rather click than not (preference over half of `top`).
    softness
        Width of the change from disliked to liked, in standard deviations of the subject's utility.
    top, floor
        Preference of the very best and of the very worst item, in [0, 1].
    """

    liked: float
    softness: float = 0.25
    top: float = 0.9
    floor: float = 0.01

    def preference(self, utility: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn utilities, shape (subjects, items), into preferences in [0, 1], subject by subject."""
        place = max(1, round(self.liked * utility.shape[1]))
        middle = -np.partition(-utility, place - 1, axis=1)[:, place - 1 : place]
        width = self.softness * utility.std(axis=1, keepdims=True) + 1e-9
        steep = np.clip((utility - middle) / width, -30.0, 30.0)
        preferred: NDArray[np.float32] = self.floor + (self.top - self.floor) / (1.0 + np.exp(-steep))
        return preferred.astype(np.float32)


class Direction:
    """A use case with its subjects, its items and the hidden preference.

    Parameters
    ----------
    use_case
        The direction's use case.
    subject_ids, item_ids
        In row order.
    utility
        Subject rows (n,) to hidden utility (n, items), any scale.
    calibration
        From utility to preference.
    activity
        Organic events per subject row.
    taste, item_values
        (row, item feature) to the values the subject would like there, and to those the item has.
    """

    def __init__(
        self,
        use_case: UseCase,
        subject_ids: Sequence[str],
        item_ids: Sequence[str],
        *,
        utility: Utility,
        calibration: Calibration,
        activity: NDArray[np.int64],
        taste: Taste,
        item_values: ItemValues,
    ) -> None:
        self.use_case = use_case
        self.subject_ids = tuple(subject_ids)
        self.item_ids = tuple(item_ids)
        self.activity = activity
        self.taste = taste
        self.item_values = item_values
        self._utility = utility
        self._calibration = calibration
        self._cache: OrderedDict[int, NDArray[np.float32]] = OrderedDict()

    @cached_property
    def subject_row(self) -> Mapping[str, int]:
        """Row by subject id."""
        return {name: row for row, name in enumerate(self.subject_ids)}

    @cached_property
    def item_row(self) -> Mapping[str, int]:
        """Row by item id."""
        return {name: row for row, name in enumerate(self.item_ids)}

    @cached_property
    def subject_hash(self) -> NDArray[np.uint64]:
        """Hash by subject row."""
        return hashes(self.subject_ids)

    @cached_property
    def item_hash(self) -> NDArray[np.uint64]:
        """Hash by item row."""
        return hashes(self.item_ids)

    def preferences(self, subjects: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the hidden preference in [0, 1] of subject rows (n,) for every item: (n, items)."""
        wanted = [int(row) for row in subjects]
        absent = np.array(sorted({row for row in wanted if row not in self._cache}), dtype=np.intp)
        fresh: dict[int, NDArray[np.float32]] = {}
        for chunk in np.array_split(absent, max(1, -(-len(absent) // 256))):
            if len(chunk):
                rows = self._calibration.preference(self._utility(chunk))
                fresh.update(zip(chunk.tolist(), rows, strict=True))
        if not wanted:
            return np.zeros((0, len(self.item_ids)), dtype=np.float32)
        found = np.stack([fresh[row] if row in fresh else self._cache[row] for row in wanted])
        self._cache.update(fresh)
        while len(self._cache) * len(self.item_ids) > CACHED_VALUES:
            self._cache.popitem(last=False)
        return found
