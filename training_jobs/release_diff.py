"""What a release is, and how two of them differ: parts, sizes, metrics, settings, data, golden answers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.errors import MatchloopError
from matchloop.release import Manifest
from matchloop.release.golden import read_golden
from training_jobs.gates import answerers
from training_jobs.provenance import Provenance, read_provenance
from training_jobs.tracking import flat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matchloop.release.golden import Answerer
    from matchloop.usecase import UseCase

Pair = tuple[Any, Any]
"""What the first and the second release have; None: nothing."""


@dataclass(frozen=True, slots=True)
class Described:
    """A release on disk.

    Parameters
    ----------
    folder
        Where it lies.
    bytes_by_part
        Size of each of its folders, and of the files beside them under ``release``.
    """

    folder: Path
    manifest: Manifest
    provenance: Provenance
    bytes_by_part: Mapping[str, int]

    @classmethod
    def of(cls, folder: Path) -> Described:
        """Read what is told about a release, not the release."""
        manifest = Manifest.read(folder)
        sizes: dict[str, int] = defaultdict(int)
        for path, entry in manifest.files.items():
            sizes[path.partition("/")[0] if "/" in path else "release"] += entry.bytes
        return cls(folder, manifest, read_provenance(folder), dict(sizes))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        manifest = self.manifest.model_dump(mode="json", exclude={"files"})
        return {**manifest, "bytes": self.bytes_by_part, **self.provenance}


@dataclass(frozen=True, slots=True)
class Difference:
    """How the second of two releases differs from the first.

    Parameters
    ----------
    facts
        Id, time, schema and snapshot of both.
    parts, bytes, metrics
        Of both, whatever they are.
    settings, data
        Only what differs; names are dotted.
    golden
        By part and answer: how the second answers the first's golden requests. ``largest`` and ``mean``
        absolute difference of numbers, ``equal`` share of texts, or ``fault``: why they do not compare.
    """

    facts: Mapping[str, Pair]
    parts: Mapping[str, Pair]
    bytes: Mapping[str, Pair]
    metrics: Mapping[str, Pair]
    settings: Mapping[str, Pair]
    data: Mapping[str, Pair]
    golden: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def difference(first: Described, second: Described, use_case: UseCase) -> Difference:
    """Compare two releases of a use case."""
    both = (first, second)
    facts = [
        {
            "release": each.manifest.release,
            "created": each.manifest.created.isoformat(timespec="seconds"),
            "schema": each.manifest.schema_fingerprint,
            "watermark": each.manifest.snapshot.watermark,
            "snapshot": each.manifest.snapshot.manifest_sha256,
        }
        for each in both
    ]
    parts = [dict.fromkeys(each.manifest.parts, True) for each in both]
    settings, data = ([flat(each.provenance[name]) for each in both] for name in ("settings", "data"))
    return Difference(
        facts=_paired(*facts),
        parts={name: (bool(one), bool(other)) for name, (one, other) in _paired(*parts).items()},
        bytes=_paired(*(each.bytes_by_part for each in both)),
        metrics=_paired(*(each.manifest.metrics for each in both)),
        settings=_differing(_paired(*settings)),
        data=_differing(_paired(*data)),
        golden=golden_change(first.folder, second.folder, use_case),
    )


def golden_change(first: Path, second: Path, use_case: UseCase) -> dict[str, dict[str, Any]]:
    """Ask the second release the first one's golden requests; see `Difference`."""
    found: dict[str, dict[str, Any]] = {}
    try:
        cases = read_golden(first)
        answering = answerers(second, use_case, Manifest.read(second).parts)
    except MatchloopError as error:
        return {"release": {"fault": error.message}}
    for part, case in cases.items():
        if part not in answering:
            found[part] = {"fault": "the second has no such part"}
            continue
        for name, change in _answered(answering[part], case.inputs, case.outputs).items():
            found[f"{part}.{name}"] = change
    return found


def _answered(
    answerer: Answerer, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    try:
        answers = answerer(inputs)
    except Exception as error:  # noqa: BLE001 - another catalogue, other features: it cannot be asked this
        return {name: {"fault": f"{type(error).__name__}: {error}"} for name in outputs}
    return {name: _change(outputs[name], answers.get(name)) for name in outputs}


def _change(expected: Any, answer: Any) -> dict[str, Any]:
    want, got = np.asarray(expected), np.asarray(answer)
    if answer is None or want.shape != got.shape:
        return {"fault": "not answered" if answer is None else f"shape {got.shape} instead of {want.shape}"}
    if want.dtype.kind in "US" or got.dtype.kind in "US":
        return {"equal": float((want == got).mean()) if want.size else 1.0}
    apart = np.abs(got.astype(np.float64) - want.astype(np.float64))
    return {"largest": float(apart.max(initial=0.0)), "mean": float(apart.mean()) if apart.size else 0.0}


def _paired(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Pair]:
    return {name: (one.get(name), other.get(name)) for name in [*one, *(n for n in other if n not in one)]}


def _differing(pairs: Mapping[str, Pair]) -> dict[str, Pair]:
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
