"""The Two-Tower model at serving time: two ONNX networks, their encoders, the items' vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.features.examples import entities_from_json, example_entities, features_to_json
from matchloop.release.golden import GoldenCase
from matchloop.retrieval.encoded import EncodedItems
from matchloop.retrieval.part_files import read_array, read_ids, read_json, refusing, write_array, write_json
from matchloop.retrieval.scored import Hit
from matchloop.retrieval.vector_index import VectorIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import Entity, EntityId
    from matchloop.features import EntityEncoder

_BATCH = 4096

GRAPH_FILE = "items.faiss"


class TwoTowerModel:
    """Embeds subjects and items from their features and finds the items nearest to a subject.

    Input of the item tower: `item_encoder.encode`. Input of the subject tower: `subject_encoder.encode`,
    followed, if `uses_history`, by `history_vectors` over what the subject reacted to. Each network has one
    float32 input (n, input width) and one output (n, width), n free; rows are L2-normalised here.

    Parameters
    ----------
    subject_network, item_network
        ONNX files' bytes.
    subject_encoder, item_encoder
        Those of the release.
    item_ids, item_vectors
        The catalogue embedded at build; float32, shape (n, width).
    index
        In place of `item_ids` and `item_vectors`: the index that holds them.
    uses_history
        Whether the subject's input ends with its history.
    threads
        Intra-op threads of onnxruntime, 1 or more.

    Raises
    ------
    ReleaseRefused
        If a network cannot be read or its widths do not fit the encoders, the vectors or the other network.
    """

    def __init__(
        self,
        subject_network: bytes,
        item_network: bytes,
        *,
        subject_encoder: EntityEncoder,
        item_encoder: EntityEncoder,
        item_ids: Sequence[EntityId] = (),
        item_vectors: NDArray[np.float32] | None = None,
        index: VectorIndex | None = None,
        uses_history: bool = False,
        threads: int = 1,
    ) -> None:
        self.subject_encoder = subject_encoder
        self.item_encoder = item_encoder
        self.uses_history = uses_history
        self._encoded = EncodedItems(item_encoder)
        self._networks = {"subject": subject_network, "item": item_network}
        subject_width = subject_encoder.width + (item_encoder.width if uses_history else 0)
        self._subject = _Tower("subject", subject_network, subject_width, threads)
        self._item = _Tower("item", item_network, item_encoder.width, threads)
        if self._subject.width != self._item.width:
            raise ReleaseRefused(f"subject tower gives {self._subject.width}, item tower {self._item.width}")
        if index is not None and index.width != self.width:
            raise ReleaseRefused(f"item tower gives {self._item.width}, the index holds {index.width}")
        self.index = index if index is not None else VectorIndex(self.width)
        if item_vectors is not None:
            with refusing("item vectors"):
                self.index.upsert(item_ids, item_vectors)

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self._item.width

    def embed_items(self, items: Sequence[Entity]) -> NDArray[np.float32]:
        """Return unit vectors, shape (len(items), width), in the order given."""
        return self._item.run(self.item_encoder.encode(items))

    def embed_subjects(
        self,
        subjects: Sequence[Entity],
        history: Sequence[Sequence[tuple[Entity, float]]] | None = None,
    ) -> NDArray[np.float32]:
        """Return unit vectors, shape (len(subjects), width), in the order given.

        Parameters
        ----------
        subjects
            For one that the catalogue does not hold, an entity without features.
        history
            Per subject, the items it reacted to with the event's weight; those of 0 and less are left out.
            Ignored unless the model uses history; None: none. Their encoded rows are kept: give the same
            `Entity` object again for an item that did not change.

        Raises
        ------
        InvalidInput
            If there are not as many histories as subjects, or the encoder refuses an entity.
        """
        if history is not None and len(history) != len(subjects):
            raise InvalidInput(f"{len(subjects)} subjects, {len(history)} histories")
        rows = self.subject_encoder.encode(subjects)
        if self.uses_history:
            rows = np.hstack([rows, self._history(history or [()] * len(subjects))])
        return self._subject.run(rows)

    def _history(self, history: Sequence[Sequence[tuple[Entity, float]]]) -> NDArray[np.float32]:
        flat = [(at, item, weight) for at, events in enumerate(history) for item, weight in events]
        return history_vectors(
            self._encoded.rows([item for _, item, _ in flat]),
            np.asarray([at for at, _, _ in flat], dtype=np.int64),
            np.asarray([weight for _, _, weight in flat], dtype=np.float64),
            len(history),
        )

    def upsert_items(self, items: Sequence[Entity]) -> None:
        """Embed new or changed items so that they can be found at once."""
        self.index.upsert([item.key.id for item in items], self.embed_items(items))

    def remove_items(self, ids: Collection[EntityId]) -> None:
        """Let items be found no more."""
        self.index.remove(ids)

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        exclude: Collection[EntityId] = (),
        allow: Callable[[EntityId], bool] | None = None,
    ) -> list[Hit]:
        """Return the `k` items nearest to a subject's vector, by cosine; see `VectorIndex.search`."""
        return self.index.search(vector, k, exclude=exclude, allow=allow)

    def answer(self, inputs: Mapping[str, Any]) -> Mapping[str, NDArray[np.float32]]:
        """Answer a golden request.

        Parameters
        ----------
        inputs
            ``items`` and ``subjects``: features as `features_to_json` gives them; ``history``: per subject,
            the (position in ``items``, event weight) pairs of what it reacted to.

        Returns
        -------
        mapping
            ``items`` and ``subjects``, their unit vectors, shape (n, width).
        """
        items, subjects = entities_from_json(inputs["items"]), entities_from_json(inputs["subjects"])
        history = [[(items[at], float(weight)) for at, weight in events] for events in inputs["history"]]
        return {"items": self.embed_items(items), "subjects": self.embed_subjects(subjects, history)}

    def golden_case(self, rng: np.random.Generator, rows: int = 16) -> GoldenCase:
        """Return a golden request about `rows` made-up items and subjects, with this model's answers."""
        inputs = {
            "items": [features_to_json(each) for each in example_entities(self.item_encoder, rows, rng)],
            "subjects": [
                features_to_json(each) for each in example_entities(self.subject_encoder, rows, rng)
            ],
            "history": [[[at, 1.0], [(at + 1) % rows, 2.5]] for at in range(rows)],
        }
        outputs = {name: values.tolist() for name, values in self.answer(inputs).items()}
        return GoldenCase(inputs=inputs, outputs=outputs)

    def graph_recall(self, subjects: Sequence[Entity], k: int = 20) -> float | None:
        """Return which share of the `k` items nearest to subjects a search finds; None: without a graph."""
        return self.index.recall(self.embed_subjects(subjects), k) if self.index.has_graph else None

    def save(self, folder: Path) -> None:
        """Write the part: networks, settings, item ids, and their vectors or the graph that holds them.

        The encoders have files of their own. A catalogue that is searched by a graph is written as that
        graph, so that a service need not build it.
        """
        settings = {"width": self.width, "uses_history": self.uses_history, "graph": self.index.has_graph}
        folder.mkdir(parents=True, exist_ok=True)
        if self.index.has_graph:
            ids = self.index.save(folder / GRAPH_FILE)
        else:
            ids, vectors = self.index.vectors(self.index.item_ids)
            write_array(folder, "item_vectors", vectors)
        write_json(folder, "two_tower", settings)
        write_json(folder, "item_ids", ids)
        for name, network in self._networks.items():
            (folder / f"{name}.onnx").write_bytes(network)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        subject_encoder: EntityEncoder,
        item_encoder: EntityEncoder,
        threads: int = 1,
    ) -> TwoTowerModel:
        """Read what `save` wrote, with the encoders of the same release.

        Raises
        ------
        ReleaseRefused
            If a file is missing, corrupt, or does not fit the others or the encoders.
        """
        settings = read_json(folder, "two_tower")
        ids = read_ids(folder, "item_ids")
        width, index, vectors = settings.get("width"), None, None
        if settings.get("graph", False):
            index = VectorIndex.load(folder / GRAPH_FILE, ids, int(width or 0))
        else:
            vectors = read_array(folder, "item_vectors", shape=(len(ids), width), dtype=np.float32)
        try:
            networks = [(folder / f"{name}.onnx").read_bytes() for name in ("subject", "item")]
        except OSError as error:
            raise ReleaseRefused(f"{folder.name}: a network cannot be read: {error}") from error
        return cls(
            *networks,
            subject_encoder=subject_encoder,
            item_encoder=item_encoder,
            item_ids=ids,
            item_vectors=vectors,
            index=index,
            uses_history=bool(settings.get("uses_history", False)),
            threads=threads,
        )


class _Tower:
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
        order = np.argsort(subject, kind="stable")
        grouped, weighted = subject[order], items[order]
        weighted *= share[order, None]
        starts = np.flatnonzero(np.diff(grouped, prepend=-1))
        out[grouped[starts]] = np.add.reduceat(weighted, starts, axis=0)
    return out
