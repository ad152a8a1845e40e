"""The evaluation of a world whose right answer is known, and what the report says of it."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from matchloop.testing.worlds import checkerboard
from tests.unit.training_worlds import INVESTORS
from training_jobs.evaluate import random_top, truth_of
from training_jobs.evaluate.baselines import baseline_tops
from training_jobs.evaluate.evaluation import Evaluation, Settings, evaluate_tops
from training_jobs.evaluate.report import Background, Choice, evaluation_tables, headline, write_report

SIZE = 40


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """The checkerboard with its diagonal withheld: who knows the colours has every answer first."""
    world = checkerboard(SIZE)
    known = tuple(np.array(pair) for pair in np.nonzero(world.matrix()))
    truth = truth_of((np.arange(SIZE), np.arange(SIZE)), (known[0], known[1]), (SIZE, SIZE))
    top = np.arange(SIZE)[:, None] * np.ones(5, dtype=np.int64)[None, :]
    top[:, 1:] = -1
    tops = {"routed": top, **baseline_tops((known[0], known[1]), truth, (SIZE, SIZE), 5)}
    tops["random"] = random_top(truth, 5, np.random.default_rng(0))
    return evaluate_tops(
        tops,
        truth,
        use_case=INVESTORS,
        release="checkered",
        items=world.items,
        known=(known[0], known[1]),
        settings=Settings(k=5, cuts=(1, 5), resamples=50),
        rng=np.random.default_rng(0),
    )


def test_the_baselines_know_the_checkerboard(evaluation: Evaluation) -> None:
    methods = evaluation.parts["all"].methods

    for method in ("routed", "item_knn", "ease"):
        assert methods[method]["ndcg@5"].mean == 1.0
        assert methods[method]["coverage@5"].mean == 1.0
    assert methods["routed"]["gini@5"].mean == pytest.approx(0.0, abs=1e-9)
    assert methods["random"]["ndcg@5"].high < 0.5
    assert evaluation.parts["all"].behind["random"].low > 0.5
    assert set(evaluation.parts) == {"all", "warm", "subject warm"}
    assert [found.mean for found in evaluation.ndcg["routed"]] == [1.0, 1.0]


def test_the_same_lists_have_the_same_interval(evaluation: Evaluation) -> None:
    methods = evaluation.parts["all"].methods

    assert methods["ease"]["mrr@5"] == methods["item_knn"]["mrr@5"]


def test_the_report_is_one_whole_file(evaluation: Evaluation, tmp_path: Path) -> None:
    gate = {"name": "against_champion", "value": 0.1, "threshold": -0.3, "verdict": "passed", "note": "<b>"}
    told = Background(
        created="today",
        curves={"two_tower_loss": [2.0, 1.0], "nothing": []},
        choices=[Choice("methods, warm", "als", "NDCG@5")],
        gates=[gate],
        settings={"seed": 1},
        skipped={"ranker": "too few"},
    )
    path = tmp_path / "new" / "report.html"
    write_report(path, evaluation, told)
    text = path.read_text(encoding="utf-8")

    sources: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            sources.extend(v for k, v in attrs if k in ("src", "href", "xlink:href") and v and v[0] != "#")

    Parser().feed(text)
    assert sources == []
    assert text.count("<svg") == 5
    assert "&lt;b&gt;" in text
    assert "too few" in text
    for sentence in headline(evaluation):
        assert sentence in text
    write_report(tmp_path / "again.html", evaluation, told)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_the_outcome_is_said_in_words_and_tables(evaluation: Evaluation) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*evaluation_tables(evaluation))
    printed = console.export_text()

    assert "…" in printed
    assert "item_knn" in printed
    assert "It is ahead of random" in " ".join(headline(evaluation))
    assert "not clearly different from ease" in " ".join(headline(evaluation))
    json.dumps(evaluation.to_json())
