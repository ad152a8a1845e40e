"""Put a release together: parts through the classes that serve them, golden requests, manifest last."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matchloop.release import GoldenCase, Manifest, SnapshotReference, write_golden
from matchloop.rerank.scorer import Ranker, RuleScorer
from matchloop.retrieval.choices import ENSEMBLE
from matchloop.retrieval.two_tower import TwoTowerModel
from training_jobs.provenance import write_provenance

if TYPE_CHECKING:
    from datetime import datetime

    from matchloop.rerank.scorer import Scorer
    from matchloop.retrieval.als import AlsModel
    from matchloop.retrieval.choices import Choices
    from matchloop.retrieval.popular import PopularModel
    from training_jobs.drift import Baseline
    from training_jobs.material import Material
    from training_jobs.provenance import Provenance
    from training_jobs.recipes.ranker import RankerResult
    from training_jobs.recipes.two_tower import TwoTowerResult

GRAPH_RECALL = "two_tower_graph_recall_at_20"
ALS_GRAPH_RECALL = "als_graph_recall_at_20"
"""Of a catalogue that is searched by a graph: the share of the exact 20 nearest that it finds."""

GRAPH_QUERIES = 200


@dataclass(frozen=True, slots=True)
class Parts:
    """The trained parts; None where a part could not be trained."""

    als: AlsModel | None = None
    two_tower: TwoTowerResult | None = None
    popular: PopularModel | None = None
    ranker: RankerResult | None = None
    choices: Choices | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts there are, as the manifest has them."""
        present = {
            "als": self.als,
            "two_tower": self.two_tower,
            "popular": self.popular,
            "ranker": self.ranker,
        }
        return tuple(name for name, part in present.items() if part is not None)


def assemble(
    folder: Path,
    release: str,
    material: Material,
    parts: Parts,
    *,
    metrics: Mapping[str, float],
    created: datetime,
    seed: int,
    provenance: Provenance | None = None,
    baseline: Callable[[Scorer], Baseline | None] | None = None,
) -> Manifest:
    """Write the release to `folder` in one step: it is there whole, or not at all.

    ``routing.json`` says, by tier, which methods did best on the validation part, and how they are fused;
    ``provenance.json`` where the release comes from.

    Parameters
    ----------
    baseline
        Tells, given what the release scores with, what the lists it serves are held against for drift.
    """
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    use_case = material.use_case
    rng = np.random.default_rng(seed)
    golden: dict[str, GoldenCase] = {}
    if parts.als is not None:
        recall = parts.als.build_graph()
        metrics = metrics if recall is None else {**metrics, ALS_GRAPH_RECALL: recall}
        parts.als.save(unfinished / "als")
        golden["als"] = parts.als.golden_case(rng)
    if parts.two_tower is not None:
        encoders = unfinished / "encoder"
        material.encoded.subject_encoder.save(encoders / "subject.json")
        material.encoded.item_encoder.save(encoders / "item.json")
        towers = two_tower_model(material, parts.two_tower)
        towers.save(unfinished / "two_tower")
        golden["two_tower"] = towers.golden_case(rng)
        subjects = material.subjects
        asked = rng.choice(len(subjects), min(GRAPH_QUERIES, len(subjects)), replace=False).tolist()
        recall = towers.graph_recall([subjects[row] for row in asked])
        metrics = metrics if recall is None else {**metrics, GRAPH_RECALL: recall}
    if parts.popular is not None:
        parts.popular.save(unfinished / "popular")
    scorer: Scorer = RuleScorer(use_case)
    if parts.ranker is not None:
        parts.ranker.write(unfinished / "ranker", use_case)
        scorer = ranker = Ranker.load(unfinished / "ranker", use_case)
        golden["ranker"] = ranker.golden_case(rng)
    reference = baseline(scorer) if baseline is not None else None
    if reference is not None:
        reference.write(unfinished)
    if parts.choices is not None:
        parts.choices.write(unfinished)
        golden[ENSEMBLE] = parts.choices.golden_case()
    if provenance is not None:
        write_provenance(unfinished, provenance)
    write_golden(unfinished, golden)
    snapshot = material.snapshot
    manifest_json = (snapshot.folder / "manifest.json").read_bytes()
    manifest = Manifest.write(
        unfinished,
        release=release,
        use_case=use_case,
        created=created,
        snapshot=SnapshotReference(
            watermark=str(snapshot.manifest.watermark),
            manifest_sha256=hashlib.sha256(manifest_json).hexdigest(),
        ),
        parts=parts.names,
        metrics=metrics,
    )
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return manifest


def two_tower_model(material: Material, trained: TwoTowerResult) -> TwoTowerModel:
    """Return the serving class over the trained networks; it holds the active items."""
    active = [row for row, item in enumerate(material.items) if item.active]
    return TwoTowerModel(
        trained.subject_network,
        trained.item_network,
        subject_encoder=material.encoded.subject_encoder,
        item_encoder=material.encoded.item_encoder,
        item_ids=[material.items[row].key.id for row in active],
        item_vectors=trained.item_vectors[active],
        uses_history=trained.uses_history,
        id_tables=trained.id_tables,
    )
