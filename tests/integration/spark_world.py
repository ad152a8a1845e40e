"""A record with all that one may hold, drawn by chance, for engines that have to agree on it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from matchloop.entities import Categorical, Embedding, Multi, Numeric, Text
from matchloop.snapshot import Snapshot
from tests.unit.training_worlds import INVESTORS, START, interaction, named, session, snapshot_of

SUBJECTS = [f"a{number}" for number in range(25)]
ITEMS = [f"s{number}" for number in range(40)]
NAMES = INVESTORS.ranking.features
EVENTS = sorted(INVESTORS.events)
SIZE = 6


def everything(folder: Path, *, lists: int = 160, events: int = 900, seed: int = 5) -> Snapshot:
    """Lists empty and full, degraded, a client's, varied by chance; reactions of all kinds; erased items."""
    rng = np.random.default_rng(seed)
    sessions = [_list(number, rng) for number in range(lists)]
    reactions, dislikes = [], []
    for number in range(events):
        of = sessions[int(rng.integers(lists))]
        time = of["serve_time"] + timedelta(minutes=int(rng.integers(90)))
        item, more = str(rng.choice([*ITEMS, "erased"])), {}
        if of["item_ids"] and rng.random() < 0.7:
            rank = int(rng.integers(len(of["item_ids"])))
            item = of["item_ids"][rank]
            more = {"session_id": of["session_id"], "rank": rank + 1, "score": of["scores"][rank]}
        subject, event = of["subject_id"], str(rng.choice(EVENTS))
        reactions.append(interaction(number, subject, item, event, **{**more, "event_time": time}))
        if number % 25 == 0:
            dislikes.append(_dislike(number, subject, item) | {"event_time": time + timedelta(minutes=1)})
    people = [
        *named("investor", SUBJECTS, {"tags": Multi(("red", "blue")), "country": Categorical("at")}),
        *named("startup", ITEMS[:30], {"founded_year": Numeric(2020.0), "name": Text("a name")}),
        *named("startup", ITEMS[30:], {"embedding": Embedding((0.25, -1.0, 0.5))}),
    ]
    return snapshot_of(folder, people, reactions, sessions, dislikes)


def _list(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return a list; every tenth is empty, every seventh a client's, every fifth without features."""
    size = 0 if number % 10 == 0 else SIZE
    items = [str(item) for item in rng.choice(ITEMS, size, replace=False)]
    scores = np.sort(rng.random(size))[::-1].round(3).tolist()
    more: dict[str, Any] = {"serve_time": START + timedelta(minutes=int(rng.integers(40_000)))}
    if number % 7 == 0:
        more |= {"source": "client"}
    if number % 5 == 0:
        more |= {"feature_names": [], "feature_values": []}
    if number % 3 == 0:
        more |= {"retrieval_scores": [None, *scores[1:]], "reranked": True}
    if number % 4 == 0:
        more |= {"propensities": [1.0, *[0.5] * 2, *[1.0] * (size - 3)] if size else []}
    return session(
        f"l{number}", str(rng.choice(SUBJECTS)), items, scores, rng.random((size, len(NAMES))), **more
    )


def _dislike(number: int, subject: str, item: str) -> dict[str, Any]:
    return {
        "dislike_id": f"d{number}",
        "use_case": INVESTORS.id,
        "subject_id": subject,
        "item_id": item,
        "reason": "other",
    }
