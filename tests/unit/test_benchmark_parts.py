"""What the benchmarks are made of: targets, the report's layout, and the reactions they send."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ingest import grown, targets_of
from benchmarks.ingest_side import Timings, requested
from benchmarks.reactions import EVENTS, Market
from benchmarks.report import Better, Target, about, write_report
from feedback_svc.convert.interactions import interactions_to_record
from feedback_svc.convert.shared import Schema
from matchloop.usecase import load_use_cases

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("better", "measured", "met"),
    [
        (Better.LOWER, 3.0, True),
        (Better.LOWER, 3.1, False),
        (Better.HIGHER, 3.0, True),
        (Better.HIGHER, 2.9, False),
    ],
)
def test_a_target_is_met_at_its_bound(better: Better, measured: float, met: bool) -> None:
    assert Target("speed", measured, 3.0, better, measured, measured).met is met


def test_a_report_holds_what_it_ran_on_and_every_target(tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.json"
    write_report(out, about(), {"rows": 3}, [Target("speed", 2.0, 3.0, Better.LOWER, 1.0, 4.0)])
    whole = json.loads(out.read_text())
    assert set(whole) == {"machine", "versions", "commit", "figures", "targets"}
    assert whole["targets"] == [
        {"name": "speed", "measured": 2.0, "bound": 3.0, "better": "lower", "low": 1.0, "high": 4.0}
    ]


def test_reactions_are_valid_mixed_and_partly_from_lists() -> None:
    market = Market(np.random.default_rng(0))
    batches = [market.batch(NOW) for _ in range(20)]
    found = [interaction for batch in batches for interaction in batch.interactions]
    shares = Counter(interaction.event_type for interaction in found)
    assert {name: shares[name] / len(found) for name in EVENTS} == pytest.approx(EVENTS, abs=0.02)
    assert len({interaction.interaction_id for interaction in found}) == len(found) == 10_000
    lists = {session.session_id: session for batch in batches for session in batch.sessions}
    tied = [interaction for interaction in found if interaction.session_id]
    assert len(tied) == 2_500
    for interaction in tied:
        source = lists[interaction.session_id]
        assert source.subject_id == interaction.subject_id
        assert source.place_of(interaction.item_id)
        assert len(set(source.item_ids)) == len(source.item_ids)
    interactions_to_record(requested(batches[0].interactions), Schema.of(load_use_cases()), NOW)


def test_few_subjects_have_most_reactions() -> None:
    market = Market(np.random.default_rng(0), subjects=1000, items=1000)
    counts = Counter(i.subject_id for _ in range(20) for i in market.batch(NOW).interactions)
    assert sum(count for _, count in counts.most_common(100)) > 5_000


def test_the_same_seed_draws_the_same() -> None:
    one, other = (Market(np.random.default_rng(3)).batch(NOW, size=20) for _ in range(2))
    assert one == other
    assert all(NOW - timedelta(hours=1) <= each.event_time <= NOW for each in one.interactions)


def timings(batch: float, single: float, state: float) -> Timings:
    told = {"noop": 1.0, "single": single, "state_10": 2.0, "state_10000": state, "batch": batch}
    made = Timings()
    for name, seconds in told.items():
        made.rounds[name] = [[seconds] * 3, [seconds] * 3]
    return made


def test_the_worst_ratio_of_full_over_empty_is_the_target() -> None:
    empty, full = timings(0.02, 3.0, 4.0), timings(0.03, 3.0, 8.0)
    ratios = {name: max(each) for name, each in grown(empty, full).items()}
    assert ratios["batch_interactions_per_s"] == pytest.approx(1.5)
    assert ratios["single_vs_noop_p50"] == pytest.approx(1.0)
    assert ratios["state_10000_vs_state_10_p50"] == pytest.approx(2.0)
    targets = {target.name: target for target in targets_of(empty, full, [10.0], 5_000_000)}
    assert targets["batch_interactions_per_s"].measured == pytest.approx(25_000)
    assert targets["state_10000_vs_10_p50"].measured == pytest.approx(2.0)
    assert targets["at_5m_vs_empty"].measured == pytest.approx(2.0)
    assert not targets["at_5m_vs_empty"].met
    assert targets["export_interactions_per_s"].measured == pytest.approx(500_000)
