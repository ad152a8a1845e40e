"""One network of the Two-Tower at serving time, and the history input of the subjects'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from matchloop.errors import InvalidInput, ReleaseRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class PastItems:
    """The items that subjects reacted to, in columns of equal length n.

    Parameters
    ----------
    rows
        Encoded items, float32 (n, item width).
    ids
        Theirs.
    subject
        int64 (n,): row of the event's subject.
    weight
        float (n,): the event's.
    """

    rows: NDArray[np.float32]
    ids: Sequence[str]
    subject: NDArray[np.int64]
    weight: NDArray[np.floating]


class Tower:
    """One ONNX network, checked against the width of its input."""

    def __init__(self, name: str, network: bytes, input_width: int, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's faults have no common base of their own
            raise ReleaseRefused(f"{name} tower cannot be read: {error}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 2 or len(outputs[0].shape) != 2:
            raise ReleaseRefused(f"{name} tower must have one input and one output of two dimensions")
        if inputs[0].shape[1] != input_width:
            raise ReleaseRefused(
                f"{name} tower takes {inputs[0].shape[1]} columns, {input_width} are encoded"
            )
        self.name = name
        self.width = int(outputs[0].shape[1])
        self._input = inputs[0].name

    def run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit rows, shape (n, width)."""
        out = np.zeros((len(rows), self.width), dtype=np.float32)
        for start in range(0, len(rows), _BATCH):
            feed: dict[str, Any] = {self._input: np.ascontiguousarray(rows[start : start + _BATCH])}
            out[start : start + _BATCH] = self._session.run(None, feed)[0]
        if not np.isfinite(out).all():
            raise ReleaseRefused(f"{self.name} tower gave a number that is not finite")
        norms = np.sqrt((out * out).sum(axis=1, keepdims=True))  # (n, 1)
        unit_rows: NDArray[np.float32] = (out / np.where(norms > 0.0, norms, 1.0)).astype(np.float32)
        return unit_rows


def history_vectors(
    items: NDArray[np.float32], subject: NDArray[np.int64], weights: NDArray[np.floating], subjects: int
) -> NDArray[np.float32]:
    """Return each subject's mean encoded item, weighted by event weight.

    Parameters
    ----------
    items
        Encoded items, one row per event, shape (n, item width).
    subject
        Row of the event's subject, 0 to `subjects` − 1, shape (n,).
    weights
        Event weights, finite, shape (n,); those of 0 and less are left out.
    subjects
        How many subjects.

    Returns
    -------
    ndarray of float32, shape (subjects, item width)
        Zero for a subject with no positive event.
    """
    if not (len(items) == len(subject) == len(weights)):
        raise InvalidInput(f"{len(items)} items, {len(subject)} subjects, {len(weights)} weights")
    if not np.isfinite(weights).all():
        raise InvalidInput("a weight is not finite")
    positive = np.clip(weights, 0.0, None)
    total = np.bincount(subject, positive, minlength=subjects)  # (subjects,)
    share = (positive / np.where(total > 0.0, total, 1.0)[subject]).astype(np.float32)
    out = np.zeros((subjects, items.shape[1]), dtype=np.float32)
    if len(subject):
        if (np.diff(subject) < 0).any():  # a subject's events have to stand together
            order = np.argsort(subject, kind="stable")
            items, subject, share = items[order], subject[order], share[order]
        starts = np.flatnonzero(np.diff(subject, prepend=-1))
        out[subject[starts]] = np.add.reduceat(items * share[:, None], starts, axis=0)
    return out
