"""Gradient descent: one pass over batches, in which the host waits for the device as rarely as it can."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

READ = 100  # steps after which losses are read from a GPU; the host is this far ahead of it at most

B = TypeVar("B")


class NotFinite(Exception):
    """A loss is NaN or infinite.

    Attributes:
        step: of the pass, from 0.
        loss: of that step; of several losses the first that is not finite.
        which: its number among several.
    """

    def __init__(self, step: int, losses: Tensor) -> None:
        broken = int((~losses.isfinite()).flatten().nonzero()[0])
        self.step, self.which, self.loss = step, broken, float(losses.flatten()[broken])
        super().__init__(f"the loss is {self.loss} at step {step + 1}")


def descend(
    batches: Iterable[B],
    loss: Callable[[B], Tensor],
    optimizer: Any,
    *,
    backward: Callable[[Tensor], Any] = Tensor.backward,
    rate: Callable[[int], float] | None = None,
    on_step: Callable[[int], Any] = lambda step: None,
    joined: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Take a step down the loss of each batch.

    Losses stay where they are computed, so that the host prepares the next steps while a GPU runs. They are read every
    100 steps and at the end, and on a CPU, where reading costs nothing, at every step.

    Args:
        batches: what `loss` takes.
        loss: of a batch: a number, or several, whose sum goes down.
        optimizer: of the parameters that go down.
        backward: computes the gradients of the sum.
        rate: the learning rate of each step, from 0; None leaves the optimizer's.
        on_step: called after each step with its number, from 0.
        joined: brings losses (steps, ...) together with those of other processes, which then find the same; they are
            read every 100 steps.

    Returns:
        (steps, ...) the losses, on the CPU; empty without batches.

    Raises:
        NotFinite: for a loss that is not finite; later steps of the same hundred may have been taken.
    """
    read: list[Tensor] = []
    waiting: list[Tensor] = []
    for step, batch in enumerate(batches):
        if rate is not None:
            _set_rate(optimizer, rate(step))
        optimizer.zero_grad()
        with torch.enable_grad():
            value = loss(batch)
            backward(value.sum() if value.ndim else value)
        optimizer.step()
        waiting.append(value.detach())
        if (_at_hand(value) and joined is None) or len(waiting) == READ:
            read += _finite(waiting, len(read), joined)
            waiting = []
        on_step(step)
    read += _finite(waiting, len(read), joined)
    return torch.stack(read) if read else torch.empty(0)


def _at_hand(value: Tensor) -> bool:
    """Whether reading a value is no wait."""
    return value.device.type == "cpu"


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _finite(losses: list[Tensor], first: int, joined: Callable[[Tensor], Tensor] | None) -> list[Tensor]:
    """Losses on the CPU, the first of which is that of step `first`."""
    if not losses:
        return []
    stacked = torch.stack(losses)
    found = list((joined(stacked) if joined else stacked).cpu())
    for i, value in enumerate(found):
        if not bool(value.isfinite().all()):
            raise NotFinite(first + i, value)
    return found
