"""Golden requests: stored inputs and the answers a release gave when it was built.

They are asked again after every load: a release that answers otherwise here (a library's other version,
a damaged array) is refused, and the asking warms it up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from matchloop.errors import ReleaseRefused

GOLDEN_FILE = "golden.json"
TOLERANCE = 1e-4
"""Largest difference allowed between a stored and a new number, absolute plus relative."""

Answerer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""From a golden request's inputs to its outputs by name: numbers or strings, any (nested) shape."""


class GoldenCase(BaseModel):
    """One part's golden request.

    Parameters
    ----------
    inputs
        JSON values by name; the part itself knows how to read them.
    outputs
        Expected answers by name: (nested) lists of numbers, or of strings, which must be equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: dict[str, Any]
    outputs: dict[str, Any]


class _Golden(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: dict[str, GoldenCase]


def write_golden(folder: Path, cases: Mapping[str, GoldenCase]) -> Path:
    """Write ``golden.json`` into a release's folder: one case by part name. Before the manifest."""
    path = folder / GOLDEN_FILE
    path.write_text(_Golden(parts=dict(cases)).model_dump_json(), encoding="utf-8")
    return path


def read_golden(folder: Path) -> Mapping[str, GoldenCase]:
    """Return a release's golden requests, by part.

    Raises
    ------
    ReleaseRefused
        If they cannot be read.
    """
    try:
        return _Golden.model_validate_json((folder / GOLDEN_FILE).read_bytes()).parts
    except (OSError, ValidationError) as error:
        raise ReleaseRefused(f"{GOLDEN_FILE}: {error}") from error


def check_golden(folder: Path, answerers: Mapping[str, Answerer]) -> None:
    """Ask the golden requests of the parts named in `answerers` and compare the answers.

    Raises
    ------
    ReleaseRefused
        Naming every part and output that is missing, fails or differs.
    """
    cases = read_golden(folder)
    faults: list[str] = []
    for part, answerer in answerers.items():
        case = cases.get(part)
        if case is None:
            faults.append(f"{part}: no golden request")
            continue
        try:
            answers = answerer(case.inputs)
        except Exception as error:  # noqa: BLE001 - whatever a part dies of, the release is refused for it
            faults.append(f"{part}: {type(error).__name__}: {error}")
            continue
        faults += _differences(part, case.outputs, answers)
    if faults:
        raise ReleaseRefused("golden requests: " + "; ".join(faults))


def _differences(part: str, expected: Mapping[str, Any], answers: Mapping[str, Any]) -> list[str]:
    faults = [f"{part}.{name}: not answered" for name in expected if name not in answers]
    for name in (name for name in expected if name in answers):
        want, got = np.asarray(expected[name]), np.asarray(answers[name])
        if want.shape != got.shape:
            faults.append(f"{part}.{name}: shape {got.shape} instead of {want.shape}")
        elif want.dtype.kind in "US" or got.dtype.kind in "US":
            if not np.array_equal(want, got):
                faults.append(f"{part}.{name}: other values")
        elif not np.allclose(got, want, rtol=TOLERANCE, atol=TOLERANCE):
            worst = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64))))
            faults.append(f"{part}.{name}: differs by up to {worst:.3g}, allowed is {TOLERANCE:g}")
    return faults
