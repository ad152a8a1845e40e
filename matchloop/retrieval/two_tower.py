"""The Two-Tower model at serving time: two ONNX networks, their encoders, the items' vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.errors import InvalidInput, ReleaseRefused
from matchloop.features.examples import entities_from_json, example_entities, features_to_json
from matchloop.release.golden import GoldenCase
from matchloop.retrieval.encoded import EncodedItems, History
from matchloop.retrieval.id_table import IdTable
from matchloop.retrieval.part_files import read_array, read_ids, read_json, refusing, write_array, write_json
from matchloop.retrieval.scored import Hit
from matchloop.retrieval.tower import PastItems, Tower, history_vectors
from matchloop.retrieval.vector_index import VectorIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from matchloop.entities import Entity, EntityId
    from matchloop.features import EntityEncoder

SUBJECT_IDS, ITEM_IDS, HISTORY_IDS = "subject_ids", "item_ids", "history_ids"
"""Names of the tables of id vectors."""

GRAPH_FILE = "items.faiss"


class TwoTowerModel:
    """Embeds subjects and items from their features and finds the items nearest to a subject.

    Input of the item tower: `item_encoder.encode`. Input of the subject tower: `subject_encoder.encode`,
    followed, if `uses_history`, by `history_vectors` over what the subject reacted to. With `id_tables` both
    inputs end with a vector looked up by id, which the networks add to their output: the item's; the
    subject's, plus, if `uses_history`, the weighted mean of the reacted items' in a table of its own. An id
    never seen in training finds a vector that such ids share. Each network has one float32 input (n, input
    width) and one output (n, width), n free; rows are L2-normalised here.

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
    id_tables
        `SUBJECT_IDS`, `ITEM_IDS` and, if `uses_history`, `HISTORY_IDS`; empty: ids are not used.
    threads
        Intra-op threads of onnxruntime, 1 or more.

    Raises
    ------
    ReleaseRefused
        If a network cannot be read, a table is missing, or widths do not fit the encoders, the vectors or
        each other.
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
        id_tables: Mapping[str, IdTable] | None = None,
        threads: int = 1,
    ) -> None:
        self.subject_encoder = subject_encoder
        self.item_encoder = item_encoder
        self.uses_history = uses_history
        self._encoded = EncodedItems(item_encoder)
        self._networks = {"subject": subject_network, "item": item_network}
        self._ids = dict(id_tables or {})
        needed = _tables(uses_history=uses_history) if self._ids else ()
        if set(needed) != set(self._ids):
            raise ReleaseRefused(f"id tables are {sorted(self._ids)}, needed are {sorted(needed)}")
        subject_width = subject_encoder.width + (item_encoder.width if uses_history else 0)
        added = {table.width for table in self._ids.values()} or {0}
        self._subject = Tower("subject", subject_network, subject_width + max(added), threads)
        self._item = Tower("item", item_network, item_encoder.width + max(added), threads)
        if self._ids and added != {self._item.width}:
            raise ReleaseRefused(f"id vectors are {sorted(added)} wide, the item tower's {self._item.width}")
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
        return self.item_vectors(self.item_encoder.encode(items), [item.key.id for item in items])

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
            Ignored unless the model uses history; None: none.

        Raises
        ------
        InvalidInput
            If there are not as many histories as subjects, or the encoder refuses an entity.
        """
        if history is not None and len(history) != len(subjects):
            raise InvalidInput(f"{len(subjects)} subjects, {len(history)} histories")
        rows = self.subject_encoder.encode(subjects)
        ids = [subject.key.id for subject in subjects]
        flat = [(at, *event) for at, events in enumerate(history or ()) for event in events]
        if not self.uses_history:
            flat = []
        past = PastItems(
            self.item_encoder.encode([item for _, item, _ in flat]),
            [item.key.id for _, item, _ in flat],
            np.asarray([at for at, _, _ in flat], dtype=np.int64),
            np.asarray([weight for _, _, weight in flat], dtype=np.float64),
        )
        return self.subject_vectors(rows, ids, past)

    def embed_subject(self, subject: Entity, history: History) -> NDArray[np.float32]:
        """Return what `embed_subjects` gives for one subject, shape (width,); encoded items are kept.

        `history` is that of a model that uses it; empty for one that does not.
        """
        past = PastItems(
            self._encoded.rows(history),
            history.ids,
            np.zeros(len(history), dtype=np.int64),
            np.asarray(history.weights, dtype=np.float64),
        )
        rows = self.subject_encoder.encode([subject])
        vector: NDArray[np.float32] = self.subject_vectors(rows, [subject.key.id], past)[0]
        return vector

    def item_vectors(self, rows: NDArray[np.float32], ids: Sequence[str]) -> NDArray[np.float32]:
        """Return `embed_items` of items that are encoded already, shape (len(rows), width)."""
        return self._item.run(np.hstack([rows, self._ids[ITEM_IDS].rows(ids)]) if self._ids else rows)

    def subject_vectors(
        self, rows: NDArray[np.float32], ids: Sequence[str], past: PastItems
    ) -> NDArray[np.float32]:
        """Return `embed_subjects` of subjects that are encoded already, shape (len(rows), width)."""
        count = len(rows)
        parts = [rows]
        if self.uses_history:
            parts.append(history_vectors(past.rows, past.subject, past.weight, count))
        if self._ids:
            added = self._ids[SUBJECT_IDS].rows(ids)
            if self.uses_history:
                vectors = self._ids[HISTORY_IDS].rows(past.ids)
                added = added + history_vectors(vectors, past.subject, past.weight, count)
            parts.append(added)
        return self._subject.run(np.hstack(parts))

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
        settings = {
            "width": self.width,
            "uses_history": self.uses_history,
            "uses_ids": bool(self._ids),
            "graph": self.index.has_graph,
        }
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
        for name, table in self._ids.items():
            table.save(folder, name)

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
        uses_history = bool(settings.get("uses_history", False))
        named = _tables(uses_history=uses_history) if settings.get("uses_ids") else ()
        return cls(
            *networks,
            subject_encoder=subject_encoder,
            item_encoder=item_encoder,
            item_ids=ids,
            item_vectors=vectors,
            index=index,
            uses_history=uses_history,
            id_tables={name: IdTable.load(folder, name) for name in named},
            threads=threads,
        )


def _tables(*, uses_history: bool) -> tuple[str, ...]:
    return (SUBJECT_IDS, ITEM_IDS, *((HISTORY_IDS,) if uses_history else ()))
