"""A Two-Tower training that is killed, and one that several processes share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.unit.tower_worlds import train_here, write
from training_jobs.config import Loss
from training_jobs.recipes.checkpoint import Checkpoints, key_of

TRAIN = "tests.unit.tower_worlds"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=150
    )


@pytest.mark.processes
@pytest.mark.parametrize("loss", list(Loss))
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, loss: Loss) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    done = run(["-m", TRAIN, str(killed), str(loss), "3"])
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in killed.iterdir()] == [".pt"]

    write(train_here(killed, loss), killed)
    whole.mkdir()
    write(train_here(whole, loss), whole)

    assert (killed / "subject.onnx").read_bytes() == (whole / "subject.onnx").read_bytes()
    for name, values in np.load(whole / "found.npz").items():
        np.testing.assert_array_equal(np.load(killed / "found.npz")[name], values)


@pytest.mark.processes
@pytest.mark.parametrize("loss", list(Loss))
def test_two_processes_learn_what_one_does(tmp_path: Path, loss: Loss) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    together.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", TRAIN]
    done = run([*launch, str(together), str(loss), "0"])
    assert done.returncode == 0, done.stderr
    alone.mkdir()
    write(train_here(alone, loss), alone)

    one, two = (np.load(folder / "found.npz") for folder in (alone, together))
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=0.1)  # dropout differs, nothing else
    assert abs(two["loss"][-1] - one["loss"][-1]) < 0.05 * one["loss"][0]


def test_a_checkpoint_of_other_data_or_a_broken_one_is_not_gone_on_from(tmp_path: Path) -> None:
    with (tmp_path / "told").open("w") as file:
        checkpoints = Checkpoints(tmp_path / "kept")
        checkpoint = checkpoints.of("x", key_of(np.arange(3), "a"), Console(file=file))
        assert checkpoint.load() is None
        checkpoint.save({"epoch": 4})
        assert checkpoint.load() == {"epoch": 4}
        assert Checkpoints(tmp_path / "kept", resume=False).of("x", key_of(np.arange(3), "a")).load() is None
        checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:40])
        assert checkpoint.load() is None
    assert key_of(np.arange(3), "a") != key_of(np.arange(3), "b")
    assert key_of(np.arange(3)) != key_of(np.arange(3, dtype=np.int32)) != key_of(np.arange(4))
    told = (tmp_path / "told").read_text()
    assert "going on after epoch 4" in told
    assert "cannot be read" in told
    checkpoints.clear()
    assert not (tmp_path / "kept").exists()
