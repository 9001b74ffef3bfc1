"""Weights drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """Build a module with weights drawn from a seed; the global random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the accelerators
        return build()
