"""The ingest benchmark runs, small, against real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import Better
from tests.feedback_worlds import open_folder

pytestmark = pytest.mark.processes


def test_it_measures_every_target_and_takes_up_a_kept_folder(tmp_path: Path) -> None:
    out = tmp_path / "ingest.json"
    with open_folder() as folder:
        arguments = ["--out", str(out), "--rows", "10000", "--rounds", "1", "--exports", "1"]
        arguments += ["--folder", str(folder)]
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.ingest", *arguments],
                env=dict(os.environ),
                capture_output=True,
                text=True,
                check=False,
                timeout=240,
            )
            assert done.returncode == 0, done.stderr[-2000:]
        whole = json.loads(out.read_text())
        assert {target["name"]: (target["bound"], target["better"]) for target in whole["targets"]} == {
            "batch_interactions_per_s": (15_000, Better.HIGHER),
            "single_vs_noop_p50": (6, Better.LOWER),
            "state_10000_vs_10_p50": (3, Better.LOWER),
            "at_5m_vs_empty": (1.5, Better.LOWER),
            "export_interactions_per_s": (300_000, Better.HIGHER),
        }
        assert all(target["low"] <= target["measured"] <= target["high"] for target in whole["targets"])
        assert whole["figures"]["fill_seconds"] < 1.0, "filled again"
