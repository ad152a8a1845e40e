"""Files of a release part: arrays without pickle, ids and settings as JSON, faults named."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.errors import InvalidInput, ReleaseRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn faults found while building a model from files into `ReleaseRefused`, naming `what`."""
    try:
        yield
    except (InvalidInput, KeyError, TypeError, ValueError) as error:
        raise ReleaseRefused(f"{what}: {error}") from error


def write_array(folder: Path, name: str, array: NDArray[Any]) -> None:
    """Write `array` to ``name.npy``; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def read_array(
    folder: Path, name: str, *, shape: tuple[int | None, ...], dtype: type[np.generic]
) -> NDArray[Any]:
    """Read ``name.npy`` and check it; None in `shape` stands for any length.

    Raises
    ------
    ReleaseRefused
        If it is missing, corrupt, of another shape or type, or holds a number that is not finite.
    """
    where = f"{folder.name}/{name}.npy"
    try:
        array: NDArray[Any] = np.load(folder / f"{name}.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ReleaseRefused(f"{where} cannot be read: {error}") from error
    fits = array.ndim == len(shape) and all(
        wanted is None or wanted == found for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        raise ReleaseRefused(f"{where} is {array.dtype} {array.shape}, expected {dtype.__name__} {shape}")
    if np.issubdtype(dtype, np.floating) and not np.isfinite(array).all():
        raise ReleaseRefused(f"{where} holds a number that is not finite")
    return array


def write_json(folder: Path, name: str, value: Mapping[str, Any] | Sequence[str]) -> None:
    """Write `value` to ``name.json``; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read an object that `write_json` wrote.

    Raises
    ------
    ReleaseRefused
        If it is missing, no JSON, or no object.
    """
    value = _parsed(folder, name)
    if not isinstance(value, dict):
        raise ReleaseRefused(f"{folder.name}/{name}.json holds no object")
    return value


def read_ids(folder: Path, name: str) -> list[Any]:
    """Read a list of distinct ids that `write_json` wrote.

    Raises
    ------
    ReleaseRefused
        If it is missing, no JSON, no list of strings, or an id stands twice.
    """
    value = _parsed(folder, name)
    if not isinstance(value, list) or not all(isinstance(id_, str) for id_ in value):
        raise ReleaseRefused(f"{folder.name}/{name}.json holds no list of ids")
    if len(set(value)) != len(value):
        raise ReleaseRefused(f"{folder.name}/{name}.json names an id twice")
    return [sys.intern(id_) for id_ in value]  # the same ids stand in several parts


def _parsed(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReleaseRefused(f"{folder.name}/{name}.json cannot be read: {error}") from error
