"""What a training's layers draw from, dropout first of all: PyTorch's own generators, of the CPU and of a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's global generator; the caller's state is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def of_device(device: torch.device) -> dict[str, torch.Generator]:
    """The generator that layers on a GPU draw from, by its kind; none of the CPU, whose is the global one."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return {"cuda": torch.cuda.default_generators[index]}
    if device.type == "mps":
        return {"mps": torch.mps._get_default_mps_generator()}
    return {}


@contextmanager
def seeded_too(generators: Mapping[str, torch.Generator], seed: int) -> Iterator[None]:
    """Seed further generators; they are afterwards as they were."""
    before = {name: generator.get_state() for name, generator in generators.items()}
    try:
        for generator in generators.values():
            generator.manual_seed(seed)
        yield
    finally:
        for name, generator in generators.items():
            generator.set_state(before[name])
