"""Small releases for the fault table: one that is sound, one without a method, one whose ranker fails."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from matchloop.entities import EntityId
from matchloop.release import CHAMPION, GoldenCase, Manifest, SnapshotReference, write_golden
from matchloop.rerank.scorer import ONNX_FILE, ONNX_INPUT, ONNX_OUTPUT, PART, Ranker
from matchloop.retrieval.als import AlsModel
from matchloop.testing.releases import write_ranker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matchloop.release import Registry
    from matchloop.usecase import UseCase

ALS = "als"
FACTORS = 8


class Release(StrEnum):
    """Which there are, each under its release id."""

    SOUND = "fault-sound"
    NO_ALS = "fault-no-als"
    FAILING_RANKER = "fault-failing-ranker"


class Releases:
    """Registers one of each; promotes them by name.

    Parameters
    ----------
    registry
        Of the running stack.
    subjects, items
        Whom `als` has factors of.
    folder
        Where the releases are written before they are registered.
    """

    def __init__(
        self,
        registry: Registry,
        use_case: UseCase,
        *,
        subjects: Sequence[str],
        items: Sequence[str],
        folder: Path,
    ) -> None:
        self._registry, self._use_case = registry, use_case
        self._versions = {}
        for release in Release:
            built = _write(folder / release, use_case, release, subjects, items)
            self._versions[release] = registry.register(built, use_case.id, run_id=None, metrics={}).version

    def promote(self, release: Release) -> None:
        """Make it champion."""
        self._registry.set_alias(self._use_case.id, CHAMPION, self._versions[release])

    def withdraw(self) -> None:
        """Leave the use case without a champion."""
        self._registry.drop_alias(self._use_case.id, CHAMPION)


def _write(
    folder: Path, use_case: UseCase, release: Release, subjects: Sequence[str], items: Sequence[str]
) -> Path:
    rng = np.random.default_rng(0)
    write_ranker(folder / PART, use_case, rng)
    if release is Release.FAILING_RANKER:
        _spoil(folder / PART, len(use_case.ranking.features))
        golden = {PART: _harmless(Ranker.load(folder / PART, use_case))}
    else:
        golden = {PART: Ranker.load(folder / PART, use_case).golden_case(rng)}
    parts = [PART]
    if release is not Release.NO_ALS:
        model = AlsModel(
            [EntityId(name) for name in items],
            rng.normal(size=(len(items), FACTORS)).astype(np.float32),
            [EntityId(name) for name in subjects],
            rng.normal(size=(len(subjects), FACTORS)).astype(np.float32),
            regularization=0.1,
        )
        model.save(folder / ALS)
        golden[ALS] = model.golden_case(rng)
        parts.append(ALS)
    write_golden(folder, golden)
    Manifest.write(
        folder,
        release=release.value,
        use_case=use_case,
        created=datetime.now(UTC),
        snapshot=SnapshotReference(watermark="1", manifest_sha256="0" * 64),
        parts=parts,
        metrics={},
    )
    return folder


def _spoil(folder: Path, width: int) -> None:
    """Put a network that answers NaN to every list: the root of 1 less a thousand times the features."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.full((width, 1), -1000.0, dtype=np.float32)
    nodes = [
        helper.make_node("Gemm", [ONNX_INPUT, "weight", "bias"], ["inner"]),
        helper.make_node("Sqrt", ["inner"], [ONNX_OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info(ONNX_INPUT, TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info(ONNX_OUTPUT, TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.ones(1, dtype=np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / ONNX_FILE))


def _harmless(ranker: Ranker) -> GoldenCase:
    """Return a golden request without features, the one that the spoilt network has an answer to."""
    inputs = {"features": [[0.0] * len(ranker.spec.features)] * 4}
    return GoldenCase(inputs=inputs, outputs={"score": ranker.answer(inputs)["score"].tolist()})
