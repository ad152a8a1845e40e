"""The ALS recipe: its figures by their formulas, kills that change nothing, offline vectors as served."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from rich.console import Console
from scipy import sparse

from matchloop.entities import EntityId
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.fold_in import NormalEquations
from training_jobs.config import AlsConfig, AlsTrial
from training_jobs.datasets import AlsMatrix, DatasetManifest
from training_jobs.recipes.als import AlsResult, refit_als, train_als
from training_jobs.recipes.als_checkpoint import FACTORS, TRIALS, AlsCheckpoint, Reached, key_of
from training_jobs.recipes.als_quality import AlsYardstick

TRIALS_OF = tuple(
    AlsTrial(regularization=r, alpha=4.0, half_life_days=h) for r, h in ((1.0, None), (3.0, 9.0))
)
CONFIG = AlsConfig(factors=6, iterations=5, trials=TRIALS_OF, trial_iterations=3)


def small(seed: int = 0) -> AlsMatrix:
    rng = np.random.default_rng(seed)
    weights = sparse.random(40, 30, 0.2, format="csr", dtype=np.float32, random_state=rng)
    weights.data = rng.choice([0.5, 1.0, 3.5], weights.nnz).astype(np.float32)
    manifest = DatasetManifest(
        name="als", use_case="x", snapshot="x", rows=weights.nnz, labels={}, sources={},
        first_time=None, last_time=None, sha256="x",
    )  # fmt: skip
    ages = rng.uniform(0.0, 30.0, weights.nnz).astype(np.float32)
    return AlsMatrix(weights, ages, [f"s{n}" for n in range(40)], [f"i{n}" for n in range(30)], manifest)


def judge(model: AlsModel) -> float:
    return float(model.item_factors[0, 0])


def same(one: AlsResult, other: AlsResult) -> None:
    np.testing.assert_array_equal(one.model.item_factors, other.model.item_factors)
    np.testing.assert_array_equal(one.model.subject_factors, other.model.subject_factors)
    assert (one.trial, one.quality, one.metrics, one.curves) == (
        other.trial,
        other.quality,
        other.metrics,
        other.curves,
    )


def dense(matrix: AlsMatrix, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights = matrix.weights.toarray().astype(np.float64)
    return np.where(weights > 0.0, alpha * weights, 1.0), (weights > 0.0).astype(np.float64)


def test_figures_are_what_their_formulas_say() -> None:
    matrix = small()
    found = refit_als(matrix, CONFIG, TRIALS_OF[0], seed=1)
    model = found.model
    c, p = dense(matrix, model.alpha)
    error = p - model.subject_factors.astype(np.float64) @ model.item_factors.T.astype(np.float64)
    residual, mean = (c * error**2).sum(), (c * p).sum() / c.sum()
    penalty = sum((f.astype(np.float64) ** 2).sum() for f in (model.subject_factors, model.item_factors))

    assert found.metrics == pytest.approx(
        {
            "als_explained_variance": 1.0 - residual / (c * (p - mean) ** 2).sum(),
            "als_reconstruction_error": np.sqrt(residual / c.sum()),
            "als_factors": 6.0,
        },
        rel=1e-4,
    )
    assert found.curves["als_loss"][-1] == pytest.approx((residual + penalty) / c.sum(), rel=1e-4)
    assert found.curves["als_loss"] == sorted(found.curves["als_loss"], reverse=True)


def test_the_factors_are_those_of_implicit_alone() -> None:
    matrix, trial = small(), TRIALS_OF[0]
    model = refit_als(matrix, CONFIG, trial, seed=1).model
    bare = AlternatingLeastSquares(
        factors=6, regularization=1.0, alpha=model.alpha, iterations=5, num_threads=1, random_state=1
    )
    bare.fit(matrix.weights, show_progress=False)

    np.testing.assert_allclose(model.item_factors, bare.item_factors, atol=1e-6)
    np.testing.assert_allclose(model.subject_factors, bare.user_factors, atol=1e-6)


def test_a_sample_of_the_known_pairs_stands_for_all() -> None:
    rng = np.random.default_rng(3)
    confidence = sparse.random(400, 300, 0.2, format="csr", dtype=np.float32, random_state=rng)
    confidence.data[:] = 5.0
    subjects, items = (rng.normal(0.0, 0.3, (n, 4)).astype(np.float32) for n in (400, 300))
    whole = AlsYardstick(confidence, 1.0, rng).measure(subjects, items)
    part = AlsYardstick(confidence, 1.0, rng, sample=6000).measure(subjects, items)

    assert part.loss == pytest.approx(whole.loss, rel=0.02)
    assert part.loss != whole.loss


@pytest.mark.parametrize("every", [0.0, 60.0])
@pytest.mark.parametrize("die_in", ["trial", "training"])
def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path: Path, every: float, die_in: str) -> None:
    config = CONFIG.model_copy(update={"checkpoint_seconds": every})
    program = f"""
import os, signal
from io import StringIO
from pathlib import Path
from tests.unit.test_als_recipe import CONFIG, judge, small
from training_jobs.recipes.als import train_als

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def watch(done, model):
    if done == 4:
        die()

def judged(model):
    if {die_in!r} == "trial" and model.regularization == 3.0:
        die()
    return judge(model)

config = CONFIG.model_copy(update={{"checkpoint_seconds": {every}}})
train_als(small(), config, seed=1, judge=judged, watch=watch, checkpoints=Path({str(tmp_path)!r}))
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {FACTORS, TRIALS}

    asked: list[float] = []

    def counted(model: AlsModel) -> float:
        asked.append(model.regularization)
        return judge(model)

    resumed = train_als(small(), config, seed=1, judge=counted, checkpoints=tmp_path)
    same(resumed, train_als(small(), config, seed=1, judge=judge))
    assert asked == ([3.0] if die_in == "trial" else [])


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    first = refit_als(small(), CONFIG, TRIALS_OF[1], seed=1, checkpoints=tmp_path)
    seen: list[int] = []
    config = CONFIG.model_copy(update={"trials": TRIALS_OF[1:]})
    again = train_als(small(), config, seed=1, watch=lambda n, _: seen.append(n), checkpoints=tmp_path)

    same(first, again)
    assert seen == []


def test_another_trainings_checkpoint_is_not_read(tmp_path: Path) -> None:
    keys = {
        key_of(small(), {}, 1),
        key_of(small(), {}, 2),
        key_of(small(), {"a": 1}, 1),
        key_of(small(1), {}, 1),
        key_of(replace(small(), item_ids=[f"j{n}" for n in range(30)]), {}, 1),
    }
    assert len(keys) == 5
    one, other = AlsCheckpoint(tmp_path, "one"), AlsCheckpoint(tmp_path, "other")
    one.save("fit", Reached([1.0], np.ones((2, 1), np.float32), np.ones((3, 1), np.float32)))
    one.save_trial("trial", 0.5)

    assert (other.load("fit"), one.load("other fit"), other.trials()) == (None, None, {})
    assert one.trials() == {"trial": 0.5}
    kept = one.load("fit")
    assert kept is not None
    assert kept.losses == [1.0]
    (tmp_path / FACTORS).write_bytes(b"PK torn")
    console = Console(file=StringIO())
    assert AlsCheckpoint(tmp_path, "one", console).load("fit") is None
    assert "begins anew" in console.file.getvalue()  # type: ignore[attr-defined]


def test_watch_sees_every_iteration_and_may_end_it() -> None:
    class Enough(Exception):  # noqa: N818
        pass

    seen: list[int] = []

    def watch(done: int, model: AlsModel) -> None:
        seen.append(done)
        assert np.isfinite(model.item_factors).all()
        if done == 2:
            raise Enough

    with pytest.raises(Enough):
        train_als(small(), CONFIG, seed=1, watch=watch)
    assert seen == [1, 2]


@pytest.mark.parametrize(
    "trial",
    [
        AlsTrial(regularization=1.0, alpha=4.0),
        AlsTrial(regularization=1.0, alpha=4.0, half_life_days=9.0, saturation=0.5),
    ],
)
def test_folding_in_a_training_row_solves_the_trainings_own_equations(trial: AlsTrial) -> None:
    """Training solves items last, so a subject folded in is a half-step ahead of its trained vector."""
    matrix = small()
    model = refit_als(matrix, CONFIG, trial, seed=1).model
    bare = AlternatingLeastSquares(factors=6, regularization=1.0, alpha=model.alpha, num_threads=1)
    bare.item_factors, bare.user_factors = model.item_factors, model.subject_factors
    for row in range(8):
        at = slice(*matrix.weights.indptr[row : row + 2])
        given, ages = matrix.weights.data[at], matrix.age_days[at]
        served = model.serving_vector(
            EntityId(matrix.subject_ids[row]),
            matrix.weights.indices[at].astype(np.int64),
            given,
            ages,
            whole=True,
            newer=False,
        )
        trained_on = model.aged(given, ages)
        if model.saturation is not None:
            trained_on = model.saturation * np.log1p(trained_on / model.saturation)
        line = sparse.csr_matrix((trained_on, matrix.weights.indices[at], [0, len(given)]), (1, 30))
        assert served is not None
        np.testing.assert_allclose(served, bare.recalculate_user(0, line.astype(np.float32)), atol=2e-4)


def model_of_items(width: int = 4) -> AlsModel:
    rng = np.random.default_rng(5)
    items, subject = rng.normal(size=(20, width)), rng.normal(size=(1, width))
    return AlsModel(
        [EntityId(f"i{n}") for n in range(20)],
        items.astype(np.float32),
        [EntityId("s")],
        subject.astype(np.float32),
        regularization=0.5,
        alpha=3.0,
        half_life_days=10.0,
        saturation=2.0,
    )


def test_few_and_many_items_are_folded_in_by_the_same_equations() -> None:
    """Both ways to solve them give what the definition gives."""
    rng = np.random.default_rng(6)
    items, regularization = rng.normal(size=(20, 8)), 0.3
    equations = NormalEquations(items.T @ items, regularization)
    for count in (1, 4, 5, 12):
        factors, confidence = items[:count], rng.uniform(0.5, 4.0, count)
        left = items.T @ items + factors.T @ np.diag(confidence - 1.0) @ factors + regularization * np.eye(8)
        expected = np.linalg.solve(left, factors.T @ confidence)
        np.testing.assert_allclose(equations.solve(factors, confidence), expected, rtol=1e-9)


def test_the_vector_served_is_the_one_that_knows_more() -> None:
    model, none = model_of_items(), np.zeros(0, np.int64)
    trained, rows = model.subject_factors[0], np.array([0, 1, 0])
    weights, ages = np.array([2.0, 1.0, -3.0]), np.array([0.0, 10.0, 30.0])

    def served(who: str | None, *, whole: bool = False, newer: bool = False) -> NDArray[np.float32] | None:
        return model.serving_vector(
            None if who is None else EntityId(who), rows, weights, ages, whole=whole, newer=newer
        )

    folded = model.fold_in(np.array([1]), np.array([0.5]))  # item 0 was taken back, item 1 is a half-life old
    np.testing.assert_array_equal(served("s"), trained)
    for found in (served("s", whole=True), served("s", newer=True), served("new"), served(None)):
        np.testing.assert_array_equal(found, folded)
    for who, expected in (("s", trained), ("new", None)):
        found = model.serving_vector(EntityId(who), none, np.zeros(0), np.zeros(0), whole=True, newer=True)
        assert found is expected or np.array_equal(found, expected)  # type: ignore[arg-type]
