"""Scorers: the learned ranker of a release, and the rule used while there is none.

A release's ``ranker/`` folder holds two files.

``ranker.onnx``
    One input ``features`` float32 (n, F), one output ``adjustment`` float32 (n,) or (n, 1), n dynamic.
``ranker.json``
    A `RankerSpec`: use case, feature names in column order, schema fingerprint, calibration by method.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
"""From the n candidates' present diversity, (n,), to what orders them, (n,), all else as it was.

`Scorer.final` turns the result into scores."""


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

    def final(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn what orders candidates into their final scores, any shape; rises with `raw`."""


class RankerSpec(BaseModel):
    """What ``ranker.json`` holds.

    Parameters
    ----------
    use_case, features, fingerprint
        What the ranker was trained for: use case id, columns in order, `UseCase.schema_fingerprint`.
    calibration
        Platt parameters by method; methods left out have the default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    use_case: str
    features: tuple[str, ...]
    fingerprint: str
    calibration: dict[Method, Platt] = Field(default_factory=dict)

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

    Parameters
    ----------
    spec
        Names and calibration.
    session
        onnxruntime session on ``ranker.onnx``.
    """

    learned = True

    def __init__(self, spec: RankerSpec, session: Any) -> None:
        self.spec = spec
        self._session = session
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
        session = _onnx_session(folder / ONNX_FILE)
        inputs = [(entry.name, entry.shape[-1]) for entry in session.get_inputs()]
        outputs = [entry.name for entry in session.get_outputs()]
        if inputs != [(ONNX_INPUT, len(spec.features))] or outputs != [ONNX_OUTPUT]:
            raise ReleaseRefused(
                f"{PART}/{ONNX_FILE}: inputs {inputs} and outputs {outputs}, instead of "
                f"{[(ONNX_INPUT, len(spec.features))]} and {[ONNX_OUTPUT]}"
            )
        return cls(spec, session)

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
        return self.final(self.by_diversity(features)(features[:, self._diversity]))

    def final(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return sigmoid(raw), in [0, 1]; see `Scorer`."""
        return sigmoid(raw)

    def by_diversity(self, features: NDArray[np.float32]) -> ByDiversity:
        """Fix all features of (n, F) but diversity, and order by logit; see `Scorer`."""
        rows = features.copy()
        teacher = logit(features[:, self._original])

        def raw(diversity: NDArray[np.float32]) -> NDArray[np.float32]:
            rows[:, self._diversity] = diversity
            return self.adjustment(rows) + teacher

        return raw

    def answer(self, inputs: Mapping[str, Any]) -> Mapping[str, NDArray[np.float32]]:
        """Answer a golden request: ``features`` (n, F) to ``score`` (n,)."""
        return {"score": self.score(np.asarray(inputs["features"], dtype=np.float32))}

    def golden_case(self, rng: np.random.Generator, rows: int = 16) -> GoldenCase:
        """Return a golden request of `rows` random feature rows, with this ranker's answers."""
        inputs = {"features": rng.random((rows, len(self.spec.features)), dtype=np.float32).tolist()}
        outputs = {name: values.tolist() for name, values in self.answer(inputs).items()}
        return GoldenCase(inputs=inputs, outputs=outputs)


class RuleScorer:
    """The use case's rule: a weighted sum of features (0.5 model_score + 0.2 recency + … by default).

    Scores are in [0, sum of the weights] for weights of 0 or more.

    Parameters
    ----------
    use_case
        Whose rule.
    calibration
        A release's, when its ranker fails; default: `DEFAULT_PLATT`.
    """

    learned = False

    def __init__(self, use_case: UseCase, calibration: Mapping[Method, Platt] | None = None) -> None:
        columns = FeatureColumns.of(use_case)
        self.calibration: Mapping[Method, Platt] = calibration or {}
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

    def final(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `raw` as it is; see `Scorer`."""
        return raw


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
