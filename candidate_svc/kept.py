"""The mirror on disk: a service that starts again reads what it had, then only what changed since."""

from __future__ import annotations

import json
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from candidate_svc.packed import join_texts, split_ids, split_texts
from matchloop.observe import faults
from matchloop.observe.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from candidate_svc.mirror import Mirror
    from matchloop.retrieval.content import ContentIndex
    from matchloop.usecase import UseCases

    Arrays = dict[str, NDArray[Any]]

VERSION = 1
FILE = "mirror.npz"

_log = get_logger()


class KeptMirror:
    """One file of arrays, replaced as a whole; that of another version or schema is not read.

    By the thread that changes the mirror only. Never raises for want of a disk: a start without the file
    lists the whole catalogue.

    Parameters
    ----------
    folder
        Where the file is; made.
    indexes
        Content by use case: kept too, for it takes longer to build than to read.
    """

    def __init__(self, folder: Path, use_cases: UseCases, indexes: Mapping[str, ContentIndex]) -> None:
        self._path = folder / FILE
        self._use_cases = use_cases
        self._indexes = indexes

    def keep(self, mirror: Mirror) -> bool:
        """Write what the mirror holds; tells whether that went well."""
        arrays = _prefixed({f"rows/{kind}": rows.arrays() for kind, rows in mirror.rows.items()})
        arrays |= _prefixed({f"counts/{name}": counts.arrays() for name, counts in mirror.counts.items()})
        arrays |= _prefixed({f"content/{name}": _content(index) for name, index in self._indexes.items()})
        about = {"fingerprint": self._fingerprint(), "positions": mirror.positions()}
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        unfinished = self._path.with_suffix(".unfinished")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            unfinished.replace(self._path)
        except OSError as error:
            _log.warning("the mirror cannot be kept on disk", fault=faults.said(error))
            return False
        return True

    def forget(self) -> None:
        """Remove the file: something in it was erased."""
        for path in (self._path, self._path.with_suffix(".unfinished")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                _log.error("what the mirror kept cannot be removed", fault=faults.said(error))

    def restore(self, mirror: Mirror) -> bool:
        """Fill a mirror that holds nothing yet; tells whether there was something to fill it with.

        A file that turns out damaged half way through is removed, and `ValueError` raised: what was filled
        must not be used.
        """
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                about = json.loads(kept["about"].tobytes())
                if about["fingerprint"] != self._fingerprint():
                    _log.info("what was kept of the mirror is of another making")
                    return False
                arrays = {name: kept[name] for name in kept.files}
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _log.warning("what was kept of the mirror cannot be read", fault=faults.said(error))
            return False
        try:
            self._fill(mirror, arrays)
            mirror.resume(about["positions"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            self.forget()
            raise ValueError(f"what was kept of the mirror is damaged: {error}") from error
        return True

    def _fill(self, mirror: Mirror, arrays: Arrays) -> None:
        for kind, rows in mirror.rows.items():
            rows.restore(_part(arrays, f"rows/{kind}"))
        for name, counts in mirror.counts.items():
            counts.restore(_part(arrays, f"counts/{name}"))
        for name, index in self._indexes.items():
            own = _part(arrays, f"content/{name}")
            ids = split_ids(own["ids"], own["id_ends"])
            features = split_texts(own["features"], own["feature_ends"])
            index.restore(own, ids, features, split_texts(own["values"], own["value_ends"]))

    def _fingerprint(self) -> dict[str, Any]:
        """Return all that what is kept depends on, besides the store."""
        return {
            "version": VERSION,
            "python": list(sys.version_info[:2]),  # of packed features
            "use_cases": {use_case.id: use_case.schema_fingerprint for use_case in self._use_cases.values()},
            "embedders": {name: index.embedder for name, index in self._indexes.items()},
        }


def _content(index: ContentIndex) -> Arrays:
    arrays, (ids, features, values) = index.arrays()
    arrays["ids"], arrays["id_ends"] = join_texts(ids)
    arrays["features"], arrays["feature_ends"] = join_texts(features)
    arrays["values"], arrays["value_ends"] = join_texts(values)
    return arrays


def _prefixed(parts: Mapping[str, Arrays]) -> Arrays:
    return {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}


def _part(arrays: Arrays, part: str) -> Arrays:
    start = len(part) + 1
    return {name[start:]: array for name, array in arrays.items() if name.startswith(f"{part}/")}
