"""A running average of the weights, which is evaluated and kept in their place (EMA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Averages:
    """The exponential moving average of a module's parameters and running statistics.

    After step n, counted from 1, it is average + (1 - d) · (weights - average), with d the smaller of the decay and
    n / (n + 9): the random weights of the start would stay in a short training otherwise. Whole numbers, as those of
    batches seen, are the module's own.

    Args:
        module: at the start of its training.
        decay: in (0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in _averaged(module).items()}

    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        now = _averaged(module)
        decay = min(self.decay, step / (step + 9))
        get_ema_multi_avg_fn(decay)([self.weights[k] for k in now], list(now.values()), step)

    @contextmanager
    def shown(self, module: nn.Module) -> Iterator[None]:
        """The module has the averages in the block, and afterwards its own weights again."""
        own = {k: v.detach().clone() for k, v in _averaged(module).items()}
        self.put_into(module)
        try:
            yield
        finally:
            _copy(own, module)

    def put_into(self, module: nn.Module) -> None:
        """Set a module's weights to the averages."""
        _copy(self.weights, module)


def _averaged(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of floats, by name."""
    return {k: v for k, v in module.state_dict().items() if v.is_floating_point()}


@torch.no_grad()
def _copy(weights: Mapping[str, Tensor], module: nn.Module) -> None:
    for name, value in _averaged(module).items():
        value.copy_(weights[name])
