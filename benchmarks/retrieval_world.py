"""A catalogue of films as large as asked, and a release over it, for `benchmarks.retrieval`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from matchloop.entities import Categorical, Embedding, Entity, EntityId, EntityKey, Kind, Multi, Numeric, Text
from matchloop.features import EntityEncoder, HashingEmbedder
from matchloop.release import GoldenCase, Manifest, SnapshotReference, write_golden
from matchloop.rerank.scorer import PART as RANKER
from matchloop.rerank.scorer import Ranker
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.choices import Choices
from matchloop.retrieval.two_tower import TwoTowerModel
from matchloop.testing.releases import write_ranker
from matchloop.usecase import Tier, UseCase, load_use_cases

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import FeatureValue
    from matchloop.retrieval.vector_index import VectorIndex

USE_CASE: Final = "user_movie"
RELEASE: Final = "benchmark"
WIDTH: Final = 128
VIEWERS: Final = 30
"""Made-up subjects of each tier."""

EVENTS: Final = {Tier.COLD: (0, 4), Tier.WARM: (5, 19), Tier.HOT: (20, 100)}
"""Between how many events, both included, the subjects of a tier have."""

STORED: Final = datetime(2026, 1, 1, tzinfo=UTC)
CLUSTERS: Final = 2000
FITTED: Final = 5000
"""Items and subjects that the encoders are fitted on."""

_WORDS = 20_000
_CAST = 200_000
_SERIES = 20_000


def subject(tier: Tier, number: int) -> EntityId:
    """Return the id of a subject."""
    return EntityId(f"{tier.value}-{number}")


def use_case() -> UseCase:
    """Return the use case; no other one has its item kind."""
    return load_use_cases()[USE_CASE]


def ids(items: int) -> list[EntityId]:
    """Return the ids of all items."""
    return [EntityId(f"movie-{number:07d}") for number in range(items)]


def clustered(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return unit vectors, (count, 128), as towers give them: 2000 flat groups of uneven size, with noise.

    A group lies around a centre in eight directions of its own; the groups are always the same.
    """
    fixed = np.random.default_rng(1)
    centres = fixed.standard_normal((CLUSTERS, WIDTH), dtype=np.float32)
    spread = fixed.standard_normal((CLUSTERS, 8, WIDTH), dtype=np.float32) * 0.35
    shares = 1.0 / (np.arange(CLUSTERS) + 20.0)
    shares /= shares.sum()
    out = np.empty((count, WIDTH), dtype=np.float32)
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        group = rng.choice(CLUSTERS, size, p=shares)
        along = rng.standard_normal((size, 8), dtype=np.float32)
        rows = centres[group] + np.einsum("nk,nkd->nd", along, spread[group])
        rows += 0.3 * rng.standard_normal((size, WIDTH), dtype=np.float32)
        out[start : start + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return out


def films(first: int, end: int, embedder: HashingEmbedder) -> list[Entity]:
    """Return films by number, with the vector that a catalogue derives from the title."""
    rng = np.random.default_rng([7, first])
    count = end - first
    words = np.minimum(rng.zipf(1.3, (count, 3)), _WORDS).tolist()
    cast = np.minimum(rng.zipf(1.2, (count, 4)) + rng.integers(0, 500, (count, 4)), _CAST).tolist()
    genres = np.minimum(rng.zipf(1.5, (count, 3)), 25).tolist()
    series = rng.integers(0, _SERIES * 10, count).tolist()
    language = np.minimum(rng.zipf(1.8, count), 40).tolist()
    years = rng.integers(1930, 2026, count).tolist()
    titles = [" ".join(f"w{word}" for word in own) + f" {first + at}" for at, own in enumerate(words)]
    vectors = embedder.embed(titles).tolist()
    found = []
    for at in range(count):
        features: dict[str, FeatureValue] = {
            "cast": Multi(tuple(f"p{each}" for each in dict.fromkeys(cast[at]))),
            "embedding": Embedding(tuple(vectors[at]), embedder.name),
            "genres": Multi(tuple(f"g{each}" for each in dict.fromkeys(genres[at]))),
            "language": Categorical(f"l{language[at]}"),
            "release_year": Numeric(float(years[at])),
            "title": Text(titles[at]),
        }
        if series[at] < _SERIES:
            features["series"] = Categorical(f"s{series[at]}")
        found.append(
            Entity(
                EntityKey(Kind("movie"), EntityId(f"movie-{first + at:07d}")),
                MappingProxyType(features),
                create_time=STORED - timedelta(days=at % 1000),
                update_time=STORED,
                change_sequence=first + at + 1,
            )
        )
    return found


def viewers(count: int, rng: np.random.Generator) -> list[Entity]:
    """Return subjects."""
    return [
        Entity(
            EntityKey(Kind("user"), EntityId(f"user-{number}")),
            MappingProxyType(
                {
                    "age": Numeric(float(rng.integers(18, 80))),
                    "gender": Categorical("mf"[number % 2]),
                    "occupation": Categorical(f"o{number % 21}"),
                    "genres": Multi(tuple(f"g{each}" for each in set(rng.integers(1, 9, 3).tolist()))),
                }
            ),
        )
        for number in range(count)
    ]


def tower(width: int, rng: np.random.Generator) -> bytes:
    """Return an untrained network `width` → 512 → 256 → 128 with ReLU, the size of a trained one."""
    nodes, given, tensors = [], "x", []
    sizes = (width, 512, 256, WIDTH)
    for at, (before, after) in enumerate(pairwise(sizes)):
        weights = rng.standard_normal((before, after), dtype=np.float32) / np.sqrt(np.float32(before))
        tensors.append(numpy_helper.from_array(weights, f"w{at}"))
        last = at == len(sizes) - 2
        nodes.append(helper.make_node("MatMul", [given, f"w{at}"], ["y" if last else f"h{at}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{at}"], [f"r{at}"]))
            given = f"r{at}"
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])]
    graph = helper.make_graph(nodes, "tower", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def write_release(folder: Path, index: VectorIndex, item_ids: Sequence[EntityId], recall: float) -> Manifest:
    """Write a release with als and two_tower over all items of the index, and a ranker.

    Everything has the size of what is trained; nothing is.

    Methods are tried in the use case's order, which a release's ``routing.json`` keeps but where validation
    found a better one.
    """
    own, rng = use_case(), np.random.default_rng(3)
    embedder = HashingEmbedder(own.embedding_width)
    width = own.embedding_width
    sample = films(0, min(FITTED, len(item_ids)), embedder)
    item = EntityEncoder.fit(own.item_features, sample, embedder=embedder, embedding_width=width)
    subject = EntityEncoder.fit(
        own.subject_features, viewers(FITTED, rng), embedder=embedder, embedding_width=width
    )
    towers = TwoTowerModel(
        tower(subject.width + item.width, rng),
        tower(item.width, rng),
        subject_encoder=subject,
        item_encoder=item,
        index=index,
        uses_history=True,
    )
    subject.save(folder / "encoder" / "subject.json")
    item.save(folder / "encoder" / "item.json")
    towers.save(folder / "two_tower")
    als = AlsModel(
        list(item_ids),
        clustered(len(item_ids), np.random.default_rng(8)),
        [EntityId(f"user-{number}") for number in range(1000)],
        clustered(1000, rng),
        regularization=0.1,
    )
    als_recall = als.build_graph()
    als.save(folder / "als")
    write_ranker(folder / RANKER, own, rng)
    golden: dict[str, GoldenCase] = {
        "als": als.golden_case(rng),
        "two_tower": towers.golden_case(rng),
        RANKER: Ranker.load(folder / RANKER, own).golden_case(rng),
    }
    write_golden(folder, golden)
    Choices({tier: own.methods.of(tier) for tier in Tier}).write(folder)
    return Manifest.write(
        folder,
        release=RELEASE,
        use_case=own,
        created=datetime.now(UTC),
        snapshot=SnapshotReference(watermark="1", manifest_sha256="0" * 64),
        parts=["als", "two_tower", RANKER],
        metrics={"two_tower_graph_recall_at_20": recall}
        | ({} if als_recall is None else {"als_graph_recall_at_20": als_recall}),
    )
