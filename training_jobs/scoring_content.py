"""What content retrieval would give each validation subject, through the class that serves it."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np

from matchloop.features import load_embedder
from matchloop.retrieval.content import ContentIndex
from matchloop.retrieval.profile import LATEST_EVENTS, SubjectEvent
from training_jobs.recipes.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from matchloop.retrieval.profile import ContentProfile
    from training_jobs.evaluate import Truth
    from training_jobs.material import Material
    from training_jobs.scoring import Known


def content_index(material: Material) -> ContentIndex:
    """Index all items of a snapshot, as candidate_svc does those of its mirror."""
    use_case = material.use_case
    index = ContentIndex(use_case, load_embedder(None, use_case.embedding_width))
    if material.items:
        index.upsert(material.items)
    return index


def content_top(
    index: ContentIndex,
    material: Material,
    known: Known,
    truth: Truth,
    k: int,
    *,
    console: Console | None = None,
) -> NDArray[np.int64]:
    """Return what content finds from each subject's own values and what it reacted to, (n, k) rows of items.

    Nothing for a subject that neither says anything of. Dislikes' weight changes are not known offline.
    """
    row = {str(id_): at for at, id_ in enumerate(material.item_ids)}
    top = np.full((len(truth), k), -1, dtype=np.int64)
    with progress_bar("content", len(truth), console) as bar:
        for at, subject in enumerate(truth.subjects.tolist()):
            profile = _profile(index, material, known, subject)
            if profile.has_signal:
                found = _best(index, profile, material, truth, at, k)
                top[at, : len(found)] = [row[item] for item in found]
            bar.advance()
    return top


def _profile(index: ContentIndex, material: Material, known: Known, subject: int) -> ContentProfile:
    events = known.events
    numbers = known.by_subject.get(subject, np.zeros(0, np.int64))
    times = events.time[numbers].astype("datetime64[us]")
    latest = np.argsort(times, kind="stable")[-LATEST_EVENTS:][::-1].tolist()
    reacted = [
        SubjectEvent(
            material.items[events.item[numbers[at]]].key.id,
            events.event_type[numbers[at]],
            times[at].item().replace(tzinfo=UTC),
        )
        for at in latest
    ]
    return index.profile(material.subjects[subject], reacted, {}, known.latest)


def _best(
    index: ContentIndex, profile: ContentProfile, material: Material, truth: Truth, at: int, k: int
) -> list[str]:
    """Return the best candidates' ids, best first; among what was shown, where that is what is asked."""
    items = material.items
    seen = {items[item].key.id for item in truth.seen[at].indices.tolist()}
    if truth.shown is None:
        return [str(hit.item) for hit in index.search(profile, k, exclude=seen)]
    shown = [items[item].key.id for item in sorted(truth.shown[at].indices.tolist())]
    hits = index.explain(profile, [item for item in shown if item not in seen])
    hits = sorted((hit for hit in hits if hit.score > 0.0), key=lambda hit: -hit.score)
    return [str(hit.item) for hit in hits[:k]]
