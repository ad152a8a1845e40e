"""Several processes that train as one: ``torchrun --nproc-per-node N -m training_jobs train …``.

The leader, rank 0, runs everything as a single process would. The others read and write nothing: they wait
for the leader to hand them a task, train it in step with the leader, and wait for the next. Every process
draws the same batches and takes its part of each; gradients are summed, so the batch stays what it was.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

PATIENCE = timedelta(hours=24)
"""How long the others wait for the leader, which has more to do than train with them."""


class LeaderFailedError(Exception):
    """The leader gave a shared task up; it raises the cause itself."""


class Group:
    """The processes that train together: one, unless `joined` is open."""

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1

    @property
    def leads(self) -> bool:
        """Whether this process reads, judges, writes and prints."""
        return self.rank == 0

    def share(self, find: Callable[[], Any]) -> Any:
        """Return what the leader finds, in every process; only the leader calls `find`.

        Raises
        ------
        LeaderFailedError
            In the others, when `find` raised in the leader.
        """
        if self.size == 1:
            return find()
        if not self.leads:
            told: list[Any] = [None]
            dist.broadcast_object_list(told)
            found = told[0]
            if found is None:
                raise LeaderFailedError
            return found[0]
        try:
            found = (find(),)
        except BaseException:
            dist.broadcast_object_list([None])
            raise
        dist.broadcast_object_list([found])
        return found[0]

    def sum(self, number: float) -> float:
        """Return the sum of every process's number."""
        if self.size == 1:
            return number
        summed = torch.tensor([number], dtype=torch.float64)
        dist.all_reduce(summed)
        return float(summed)

    def sum_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its sum over the processes."""
        if self.size == 1:
            return
        parameters = list(network.parameters())
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for parameter, part in zip(
            parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True
        ):
            parameter.grad = part.view_as(parameter)

    def hand_out(self, task: Any) -> None:
        """Give the others, waiting in `follow`, a task."""
        if self.size > 1 and self.leads:
            dist.broadcast_object_list([task])


def follow(do: Callable[[Any], object]) -> None:
    """Do what the leader hands out, until it is done."""
    while True:
        told: list[Any] = [None]
        dist.broadcast_object_list(told)
        if told[0] is None:
            return
        try:
            do(told[0])
        except LeaderFailedError:
            continue


@contextmanager
def joined() -> Iterator[Group]:
    """Join the processes that torchrun started; at the end the leader lets the others go."""
    dist.init_process_group("gloo", timeout=PATIENCE)
    group = Group()
    try:
        yield group
    except (Exception, SystemExit):  # a command's end too; between tasks: the others wait in `follow`
        if group.leads:
            _part(group)
        raise
    else:
        _part(group)
    finally:
        dist.destroy_process_group()


def _part(group: Group) -> None:
    """End together: who leaves while another still sends is aborted by gloo."""
    group.hand_out(None)
    dist.barrier()
