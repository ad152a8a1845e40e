"""Small releases with a random ranker, for tests of what reads releases."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matchloop.release.golden import write_golden
from matchloop.release.manifest import Manifest, SnapshotReference
from matchloop.rerank.calibration import Platt
from matchloop.rerank.scorer import ONNX_FILE, ONNX_INPUT, ONNX_OUTPUT, PART, Ranker, RankerSpec
from matchloop.usecase import Method

if TYPE_CHECKING:
    from matchloop.usecase import UseCase

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def write_ranker(folder: Path, use_case: UseCase, rng: np.random.Generator) -> None:
    """Write a ranker with random weights, of the shape that is trained: features → 32 → 16 → 1."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    RankerSpec(
        use_case=use_case.id,
        features=use_case.ranking.features,
        fingerprint=use_case.schema_fingerprint,
        calibration={Method.CONTENT: Platt(slope=6.0, intercept=-3.0)},
    ).write(folder)
    widths = [len(use_case.ranking.features), 32, 16, 1]
    nodes, weights, name = [], [], ONNX_INPUT
    for i, (width, out) in enumerate(pairwise(widths)):
        weight = rng.normal(0.0, 1.0 / np.sqrt(width), (width, out)).astype(np.float32)
        bias = rng.normal(0.0, 0.1, out).astype(np.float32)
        weights += [numpy_helper.from_array(weight, f"weight{i}"), numpy_helper.from_array(bias, f"bias{i}")]
        linear = ONNX_OUTPUT if out == 1 else f"linear{i}"
        nodes.append(helper.make_node("Gemm", [name, f"weight{i}", f"bias{i}"], [linear]))
        if out > 1:
            nodes.append(helper.make_node("Relu", [linear], [f"hidden{i}"]))
        name = f"hidden{i}"
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info(ONNX_INPUT, TensorProto.FLOAT, ["n", widths[0]])],
        [helper.make_tensor_value_info(ONNX_OUTPUT, TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / ONNX_FILE))


def build_release(
    folder: Path, use_case: UseCase, *, release: str = "r1", seed: int = 0, created: datetime = CREATED
) -> Path:
    """Write a whole release with a ranker alone into `folder` (made if missing) and return it."""
    rng = np.random.default_rng(seed)
    write_ranker(folder / PART, use_case, rng)
    write_golden(folder, {PART: Ranker.load(folder / PART, use_case).golden_case(rng)})
    write_manifest(folder, use_case, release=release, created=created)
    return folder


def write_manifest(folder: Path, use_case: UseCase, *, release: str, created: datetime = CREATED) -> Manifest:
    """Write the manifest of a release with a ranker alone; again, to make a change look meant."""
    return Manifest.write(
        folder,
        release=release,
        use_case=use_case,
        created=created,
        snapshot=SnapshotReference(watermark="1", manifest_sha256="0" * 64),
        parts=[PART],
        metrics={"ndcg_at_10": 0.5},
    )
