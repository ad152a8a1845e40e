"""The off-policy benchmark on small logs of known worlds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks.coat import Factors, Ratings, Setting, coat, fit, read
from benchmarks.off_policy import main
from benchmarks.open_bandit import Impressions, open_bandit
from matchloop.errors import InvalidInput
from training_jobs.evaluate.bandit_log import Log

ITEMS, POSITIONS = 6, 3
RATES = np.linspace(0.02, 0.3, ITEMS)


def bandit_world(folder: Path, rows: int = 6000, *, favour: float = 0.95) -> Path:
    """Write a uniform log, and one of a policy that moved from one favourite item to another."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    rest = (1.0 - favour) / (ITEMS - 1)
    for name in ("random_men", "bts_men"):
        lines = [",timestamp,item_id,position,click,propensity_score"]
        for row in range(rows):
            chances = np.full(ITEMS, 1.0 / ITEMS)
            if name == "bts_men":
                chances = np.full(ITEMS, rest)
                chances[ITEMS - 1 if row < rows // 2 else ITEMS - 2] = favour
            item = int(rng.choice(ITEMS, p=chances))
            click = int(rng.random() < RATES[item])
            lines.append(f"{row},t,{item},{1 + row % POSITIONS},{click},{chances[item]}")
        with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    return folder


def coat_world(folder: Path, subjects: int = 40, items: int = 30) -> Path:
    """Write ratings of which high ones are given the more often, and a test half by chance."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    true = np.clip(2.5 + rng.normal(0, 0.3, (subjects, 1)) + rng.normal(0, 1.2, (1, items)), 1, 5)
    ratings = np.clip(np.round(true + rng.normal(0, 0.7, true.shape)), 1, 5)
    chance = np.where(ratings >= 4, 0.6, np.where(ratings == 3, 0.15, 0.05))
    np.savetxt(folder / "train.ascii.gz", np.where(rng.random(true.shape) < chance, ratings, 0), fmt="%d")
    np.savetxt(folder / "test.ascii.gz", np.where(rng.random(true.shape) < 0.4, ratings, 0), fmt="%d")
    np.savetxt(folder / "propensities.ascii.gz", chance)
    return folder


def test_bandit_estimates_cover_and_the_reverse_is_warned_of(tmp_path: Path) -> None:
    figures, targets = open_bandit(bandit_world(tmp_path), seeds=range(2))
    off = [target.measured for target in targets if target.name.endswith("half_widths_off")]
    assert len(off) == 3
    assert max(off) < 1.5  # the interval's own width, and what is uncertain in the other log's rate
    reached = {target.name: target for target in targets}
    assert reached["obd_reverse_warns_of_it"].measured == float(
        reached["obd_reverse_effective_share"].measured < 0.1
    )
    forward = figures["thompson_from_uniform"]
    assert forward["on_policy"]["rate"] == pytest.approx(RATES[-2:].mean(), abs=0.03)
    assert min(forward["mean_propensities_add_up_to"]) > 1.5  # each half of the time nearly 1, for two items
    wide = forward["both_logs_resampled"]["ips"]
    assert wide[0] < forward["ips"]["rate"] < wide[1]


def test_the_share_of_choices_is_the_policy_over_the_week() -> None:
    item, position = np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1])
    found = Impressions(position, item, Log.of(np.zeros(4), [0.9, 0.7, 0.1, 0.5]))
    np.testing.assert_allclose(found.shares((2, 3)), [[2 / 3, 1 / 3, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(found.mean_propensities((2, 3)), [[0.8, 0.1, 0.0], [0.0, 0.0, 0.5]])


def test_a_factorisation_is_the_least_squares_it_says() -> None:
    """One subject, no factors: biases against the closed solution of the penalised normal equations."""
    ratings = Ratings(np.zeros(3, np.int64), np.arange(3), np.array([5.0, 3.0, 1.0]), np.ones(3))
    weights = np.array([2.0, 1.0, 1.0])
    found = fit(ratings, weights, Setting(0, 1.5), (1, 3), rng=np.random.default_rng(0), rounds=200)
    w = weights / weights.mean()
    design = np.hstack([np.ones((3, 1)), np.eye(3)])
    left = ratings.rating - np.average(ratings.rating, weights=weights)
    wanted = np.linalg.solve(design.T @ (w[:, None] * design) + 1.5 * np.eye(4), design.T @ (w * left))
    np.testing.assert_allclose([found.subject[0, 1], *found.item[:, 1]], wanted, atol=1e-6)
    far = Factors(9.0, found.subject, found.item).predict(np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert far.tolist() == [5.0]


def test_weights_lower_the_error_where_high_ratings_are_given_more_often(tmp_path: Path) -> None:
    few = [Setting(0, 1.0), Setting(0, 4.0), Setting(2, 4.0)]
    figures, (target,) = coat(coat_world(tmp_path), seeds=range(2), plain=few, weighted=few)
    assert target.name == "coat_mse_drop"
    assert target.measured > 0.0
    assert figures["drop_over_subjects"]["low"] > 0.0
    assert {run["weighted"]["setting"] for run in figures["runs"]} <= {str(setting) for setting in few}


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    folder = coat_world(tmp_path)
    np.savetxt(folder / "propensities.ascii.gz", np.ones((2, 2)))
    with pytest.raises(InvalidInput, match="differ"):
        read(folder)
    with gzip.open(tmp_path / "log.csv.gz", "wt") as file:
        file.write("item_id,click\n1,0\n")
    with pytest.raises(InvalidInput, match="position, propensity_score"):
        Impressions.read(tmp_path / "log.csv.gz")


def test_missing_folders_are_named_and_end_with_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    with pytest.raises(typer.Exit) as end:
        main(tmp_path / "obd", tmp_path / "coat", tmp_path / "out.json")
    assert end.value.exit_code == 2
    assert f"{tmp_path / 'obd' / 'random_men.csv.gz'}" in capsys.readouterr().err


def test_the_report_holds_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = (Setting(0, 2.0),)
    for name in ("plain", "weighted"):
        monkeypatch.setitem(coat.__kwdefaults__ or {}, name, few)
    out = tmp_path / "out.json"
    main(bandit_world(tmp_path / "obd", 600), coat_world(tmp_path / "coat"), out, seeds=1)
    whole = json.loads(out.read_text())
    assert set(whole["figures"]) == {"open_bandit", "coat"}
    assert len(whole["targets"]) == 6
