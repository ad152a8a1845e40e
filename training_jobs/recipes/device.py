"""The device that networks are trained on."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from matchloop.errors import NotEquipped
from training_jobs.config import Device

CPU = torch.device("cpu")

Placed = TypeVar("Placed")


def device_of(asked: Device, rank: int = 0) -> torch.device:
    """Return the device; of several GPUs each process of a group, by its `rank`, takes the next.

    Raises
    ------
    NotEquipped
        When a GPU is asked for and torch finds none.
    """
    if asked is Device.CPU or (asked is Device.AUTO and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built for CPUs alone"
        raise NotEquipped(
            f"device is cuda, and torch {torch.__version__} finds no GPU: it {build}. "
            'Give the machine one, or set device to "auto" or "cpu"'
        )
    return torch.device("cuda", rank % torch.cuda.device_count())


def placed(value: Placed, device: torch.device) -> Placed:
    """Return a dataclass with all its tensors, in dataclasses within it too, on `device`.

    What is there already is not copied; on the CPU, where all is made, it is the value itself.
    """
    return value if device.type == CPU.type else _moved(value, device)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _moved(getattr(value, f.name), device) for f in fields(value)})
    return value
