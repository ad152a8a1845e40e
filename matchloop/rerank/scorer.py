"""Scorers: the learned ranker of a release, and the rule used while there is none.

A release's ``ranker/`` folder holds two files.

``ranker.onnx``
    One input ``features`` float32 (n, F), one output ``adjustment`` float32 (n,) or (n, 1), n dynamic.
``ranker.json``
    A `RankerSpec`: feature names, schema fingerprint, calibration by method, and the network's layers.

Both hold the same network; the release's golden requests prove that they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from matchloop.errors import ReleaseRefused, SchemaMismatch
from matchloop.release.golden import GoldenCase
from matchloop.rerank.calibration import Platt, logit, sigmoid
from matchloop.rerank.features import FeatureColumns
from matchloop.usecase import Method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from matchloop.usecase import UseCase

ONNX_FILE = "ranker.onnx"
SPEC_FILE = "ranker.json"
ONNX_INPUT = "features"
ONNX_OUTPUT = "adjustment"
PART = "ranker"

ByDiversity = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]
"""From the n candidates' present diversity, (n,), to their scores, (n,), all else as it was."""


class Scorer(Protocol):
    """Gives candidates their final score."""

    @property
    def learned(self) -> bool:
        """Whether a trained model does the scoring; a list it orders counts as reranked."""

    @property
    def calibration(self) -> Mapping[Method, Platt]:
        """Calibration of retrieval scores by method; empty for the default."""

    def by_diversity(self, features: NDArray[np.float32]) -> ByDiversity:
        """Fix all features of (n, F) but diversity, whose column's content is ignored."""


class Layer(BaseModel):
    """One linear layer: y = weight · x + bias, weight (out, in), bias (out,), as in torch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    @model_validator(mode="after")
    def _check_shape(self) -> Layer:
        if len(self.weight) != len(self.bias) or len({len(row) for row in self.weight}) != 1:
            raise ValueError("weight must be (out, in) and bias (out,)")
        return self


class RankerSpec(BaseModel):
    """What ``ranker.json`` holds.

    Parameters
    ----------
    use_case, features, fingerprint
        What the ranker was trained for: use case id, columns in order, `UseCase.schema_fingerprint`.
    calibration
        Platt parameters by method; methods left out have the default.
    layers
        The network of ``ranker.onnx`` (dropout gone, any input scaling folded into the first layer),
        ReLU between them, one output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    use_case: str
    features: tuple[str, ...]
    fingerprint: str
    calibration: dict[Method, Platt] = Field(default_factory=dict)
    layers: tuple[Layer, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_widths(self) -> RankerSpec:
        widths = [len(self.features), *(len(layer.bias) for layer in self.layers)]
        for (width, _), layer in zip(pairwise(widths), self.layers, strict=True):
            if len(layer.weight[0]) != width:
                raise ValueError(f"a layer takes {len(layer.weight[0])} inputs where {width} come in")
        if widths[-1] != 1:
            raise ValueError(f"the last layer has {widths[-1]} outputs, not 1")
        return self

    def write(self, folder: Path) -> Path:
        """Write ``ranker.json`` into `folder` (made if missing) and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / SPEC_FILE
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> RankerSpec:
        """Read ``ranker.json`` from `folder`.

        Raises
        ------
        ReleaseRefused
            If it is missing or not what it should be.
        """
        try:
            return cls.model_validate_json((folder / SPEC_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise ReleaseRefused(f"{PART}/{SPEC_FILE}: {error}") from error


class Ranker:
    """The trained ranker: score = sigmoid(logit(original_score) + network(features)).

    While a list is placed only diversity changes, so the first layer's other inputs are summed once a
    list; the rest is a few small matrix products, for which numpy needs less time than a call into
    onnxruntime. `adjustment` runs ``ranker.onnx`` itself; the golden requests compare the two.

    Parameters
    ----------
    spec
        Names, calibration and layers.
    session
        onnxruntime session on ``ranker.onnx``.
    """

    learned = True

    def __init__(self, spec: RankerSpec, session: Any) -> None:
        self.spec = spec
        self._session = session
        self._layers = [
            (np.array(layer.weight, dtype=np.float32).T.copy(), np.array(layer.bias, dtype=np.float32))
            for layer in spec.layers
        ]
        self._diversity = spec.features.index("diversity")
        self._original = spec.features.index("original_score")

    @classmethod
    def load(cls, folder: Path, use_case: UseCase) -> Ranker:
        """Load from a release's ``ranker/`` folder.

        Raises
        ------
        SchemaMismatch
            If it was trained under another schema than `use_case` has.
        ReleaseRefused
            If a file is missing or unreadable.
        """
        spec = RankerSpec.read(folder)
        if (
            spec.fingerprint != use_case.schema_fingerprint
            or spec.features != FeatureColumns.of(use_case).names
        ):
            raise SchemaMismatch(what=PART, expected=use_case.schema_fingerprint, found=spec.fingerprint)
        return cls(spec, _onnx_session(folder / ONNX_FILE))

    @property
    def calibration(self) -> Mapping[Method, Platt]:
        """Calibration fitted with this ranker."""
        return self.spec.calibration

    def adjustment(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run ``ranker.onnx``: (n, F) float32 to (n,) float32, in logits."""
        (result,) = self._session.run([ONNX_OUTPUT], {ONNX_INPUT: features})
        return np.asarray(result, dtype=np.float32).reshape(-1)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score rows with all features given, diversity too: (n, F) float32 to (n,) float32 in [0, 1]."""
        return self.by_diversity(features)(features[:, self._diversity])

    def by_diversity(self, features: NDArray[np.float32]) -> ByDiversity:
        """Fix all features of (n, F) but diversity; see `Scorer`."""
        (first, first_bias), rest = self._layers[0], self._layers[1:]
        slope = first[self._diversity]  # (hidden,)
        fixed = features.copy()
        fixed[:, self._diversity] = 0.0
        base = fixed @ first + first_bias  # (n, hidden)
        teacher = logit(features[:, self._original])

        def scores(diversity: NDArray[np.float32]) -> NDArray[np.float32]:
            hidden = base + diversity[:, None] * slope
            for weight, bias in rest:
                np.maximum(hidden, 0.0, out=hidden)
                hidden = hidden @ weight
                hidden += bias
            return sigmoid(hidden[:, 0] + teacher)

        return scores

    def answer(self, inputs: Mapping[str, Any]) -> Mapping[str, NDArray[np.float32]]:
        """Answer a golden request by both ways of computing: ``onnx`` and ``numpy``, (n,) scores each."""
        features = np.asarray(inputs["features"], dtype=np.float32)
        onnx = sigmoid(self.adjustment(features) + logit(features[:, self._original]))
        return {"onnx": onnx, "numpy": self.score(features)}

    def golden_case(self, rng: np.random.Generator, rows: int = 16) -> GoldenCase:
        """Return a golden request of `rows` random feature rows, answered by ``ranker.onnx``."""
        features = rng.random((rows, len(self.spec.features)), dtype=np.float32)
        onnx = self.answer({"features": features})["onnx"].tolist()
        return GoldenCase(inputs={"features": features.tolist()}, outputs={"onnx": onnx, "numpy": onnx})


class RuleScorer:
    """The use case's rule: a weighted sum of features (0.5 model_score + 0.2 recency + … by default).

    Scores are in [0, sum of the weights] for weights of 0 or more.
    """

    learned = False

    def __init__(self, use_case: UseCase) -> None:
        columns = FeatureColumns.of(use_case)
        self.calibration: Mapping[Method, Platt] = {}
        self._diversity = columns.diversity
        self._weights = np.array(
            [use_case.ranking.rule.get(name, 0.0) for name in columns.names], dtype=np.float32
        )

    def by_diversity(self, features: NDArray[np.float32]) -> ByDiversity:
        """Fix all features of (n, F) but diversity; see `Scorer`."""
        slope = self._weights[self._diversity]
        others = self._weights.copy()
        others[self._diversity] = 0.0
        base = features @ others
        return lambda diversity: base + slope * diversity


def _onnx_session(path: Path) -> Any:
    """Open an ONNX file on one thread that never spins: requests are the parallelism, cores are shared."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            path.read_bytes(), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ReleaseRefused(f"{PART}/{path.name}: {error}") from error
