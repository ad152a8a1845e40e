"""Where the items of another list stand among the rows of a catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from candidate_svc.rows import ItemRows
    from matchloop.entities import EntityId


class RowMap:
    """Where the items of another list stand in an `ItemRows`; follows it as rows come.

    Parameters
    ----------
    ids
        Of the other list, in its order.
    """

    def __init__(self, ids: Sequence[EntityId], rows: ItemRows) -> None:
        self._ids = ids
        self._rows = rows
        self._known: tuple[int, NDArray[np.int64]] = (0, np.full(len(ids), -1, dtype=np.int64))

    def rows(self, count: int) -> NDArray[np.int64]:
        """Return each item's row, (len(ids),); −1 for one that has none under `count`."""
        seen, places = self._known
        if seen < count:
            seen, places = self._rows.count, places.copy()
            missing = np.flatnonzero(places < 0).tolist()
            found = (self._rows.row(self._ids[at]) for at in missing)
            places[missing] = [-1 if row is None else row for row in found]
            self._known = (seen, places)
        return places if seen == count else np.where(places < count, places, -1)
