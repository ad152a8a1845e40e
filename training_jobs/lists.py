"""The latest lists as evidence: how well a model orders what subjects were shown.

Over the whole catalogue, reactions to lists speak for whoever made the lists: an item nobody was shown got no
click. Within a list every model is asked about the same items; and since a click at a deep rank had less of
a chance, it counts by the inverse of its rank's examination probability (Joachims et al. 2017, "Unbiased
learning-to-rank with biased feedback", eq. 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from matchloop.position import Weighting, exposure_weight
from training_jobs.datasets.rows import rows_in
from training_jobs.datasets.shown import shown_items
from training_jobs.evaluate import Truth

if TYPE_CHECKING:
    from training_jobs.material import Material


def shown_truth(material: Material, *, after: int = -1) -> Truth:
    """Return what the validation part's lists showed, and which of it was reacted to.

    Parameters
    ----------
    after
        Only lists whose first reaction the store received after this watermark.

    Returns
    -------
    Truth
        By subject: `shown` has all items of its lists, `relevant` those with a reaction of positive weight
        beyond a view, with the inverse of the examination probability (capped) as gain. Lists with reactions
        in the training part, and subjects who reacted to nothing, are left out.
    """
    use_case = material.use_case
    told = material.ordered.filter(material.ordered.session_id.notnull())
    begun = told.group_by("session_id").aggregate(first=told.place.min(), sequence=told.sequence.min())
    begun = begun.filter(begun.first >= material.cut, begun.sequence > after)
    views = list(use_case.view_events)
    liked = told.filter(told.weight > 0.0)
    if views:
        liked = liked.filter(liked.event_type.notin(views))
    liked = liked.select(by_session="session_id", by_item="item_id").distinct()
    shown = shown_items(material.tables, use_case).semi_join(begun, "session_id")
    found = shown.left_join(
        liked, (shown.session_id == liked.by_session) & (shown.item_id == liked.by_item)
    ).select("subject_id", "item_id", "rank", liked=liked.by_item.notnull())
    rows = found.to_pyarrow()
    subject = rows_in(rows["subject_id"], material.subject_ids)
    item = rows_in(rows["item_id"], material.item_ids)
    gain = np.where(
        rows["liked"].to_numpy(), exposure_weight(rows["rank"].to_numpy(), Weighting.INVERSE), 0.0
    )
    held = (subject >= 0) & (item >= 0)
    shape = (len(material.subjects), len(material.items))
    place = (subject[held], item[held])
    shown_pairs = sparse.csr_matrix((np.ones(int(held.sum()), np.float32), place), shape=shape)
    relevant = sparse.csr_matrix((gain[held].astype(np.float32), place), shape=shape)
    relevant.eliminate_zeros()
    subjects = np.flatnonzero(np.diff(relevant.indptr) > 0).astype(np.int64)
    nothing = sparse.csr_matrix((len(subjects), shape[1]), dtype=np.float32)
    return Truth(subjects, relevant[subjects], nothing, shown_pairs[subjects])
