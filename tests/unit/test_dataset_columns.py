"""Columns as large as data sets: texts that repeat, numbers without repeats, and what is hashed of both."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from training_jobs.datasets import texts
from training_jobs.datasets.manifest import hash_of
from training_jobs.datasets.rows import distinct, rows_in
from training_jobs.datasets.texts import Texts

WORDS = pa.chunked_array([["a", "bcd", None], [], ["bcd", "é"]], pa.string())


def test_texts_are_what_the_column_holds() -> None:
    found = Texts.of(WORDS)

    assert found.objects().tolist() == WORDS.to_pylist()
    assert found.counts() == {"None": 1, "a": 1, "bcd": 2, "é": 1}
    assert Texts(["never", "once"], np.array([1])).counts() == {"once": 1}


@pytest.mark.parametrize("column", [WORDS, WORDS.slice(0, 0), pa.chunked_array([], pa.string())])
def test_texts_are_hashed_as_they_would_be_in_full(
    column: pa.ChunkedArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "_BLOCK", 2)
    full = np.array([text or "" for text in column.to_pylist()], dtype=np.str_)

    assert hash_of({"words": Texts.of(column)}) == hash_of({"words": full})
    assert hash_of({"words": full}) != hash_of({"word": full})


def test_texts_that_no_row_has_are_not_hashed() -> None:
    one, other = (Texts([word, "a"], np.array([1, 1])) for word in ("much longer", "b"))

    assert hash_of({"words": one}) == hash_of({"words": other})


def test_numbers_and_rows_of_none_are_none() -> None:
    assert distinct(np.array([3, -1, 3, 2], np.int64)).tolist() == [-1, 2, 3]
    assert distinct(np.zeros(0, np.int64)).tolist() == []
    assert rows_in(WORDS, ["bcd", "a"]).tolist() == [1, 0, -1, 0, -1]
    assert rows_in(WORDS.slice(0, 0), ["a"]).tolist() == []
