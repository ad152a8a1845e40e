"""Where networks are trained: the setting, and that a batch leaves nothing behind on another device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from matchloop.errors import NotEquipped
from tests.unit.tower_worlds import SMALL, skewed
from training_jobs.config import Device, Loss, RankerConfig, TwoTowerConfig
from training_jobs.recipes.device import CPU, device_of, placed
from training_jobs.recipes.pair_batches import Sampler
from training_jobs.recipes.tower_ids import Ids
from training_jobs.recipes.tower_losses import LOSSES
from training_jobs.recipes.towers import History, Inputs, Towers

ELSEWHERE = torch.device("meta")
"""A device that every machine has: it computes shapes alone, and refuses tensors of another device."""


def test_the_cpu_is_taken_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(Device.AUTO) == device_of(Device.CPU) == CPU
    assert TwoTowerConfig().device is RankerConfig().device is Device.AUTO


def test_a_gpu_that_is_asked_for_and_missing_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotEquipped, match=r'device is cuda.*finds no GPU.*"auto" or "cpu"'):
        device_of(Device.CUDA)


def test_processes_share_out_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of(Device.AUTO, rank).index for rank in range(3)] == [0, 1, 0]
    assert device_of(Device.CUDA).type == "cuda"
    assert device_of(Device.CPU) == CPU


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("loss", list(Loss))
def test_a_step_takes_place_on_the_device_alone(loss: Loss, ids: bool) -> None:
    pairs = skewed()
    subjects, items = (np.eye(count, dtype=np.float32) for count in (pairs.subjects, pairs.items))
    config = SMALL.model_copy(update={"loss": loss, "ids": ids, "history": True})
    names = [str(row) for row in range(len(subjects))]
    places = Ids.of(pairs, names, names[: len(items)], config, np.random.default_rng(0)) if ids else None
    inputs = Inputs(torch.from_numpy(subjects), torch.from_numpy(items), History.of(pairs, items), places)
    batch = next(iter(Sampler(pairs, 2, config, places).epoch(np.random.default_rng(0))))

    towers = Towers(inputs, config).to(ELSEWHERE)
    lost = LOSSES[loss](towers, placed(inputs, ELSEWHERE), placed(batch, ELSEWHERE), config)
    lost.backward()  # type: ignore[no-untyped-call]
    gradients = {p.grad.device for p in towers.parameters() if p.grad is not None}
    assert gradients == {lost.device} == {ELSEWHERE}


def test_a_tensor_left_behind_is_noticed() -> None:
    """So the test above can fail."""
    with pytest.raises(RuntimeError, match="device"):
        placed(torch.zeros(3), ELSEWHERE) + torch.zeros(3)
