"""Checkpoints: all that is needed to go on exactly, written atomically, read without running code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whatwhere.errors import InputError
from whatwhere.files import write_atomically


@dataclass
class Progress:
    """Where a training stands: its parts are updated in place by `load`.

    Attributes:
        module: the network.
        optimizer: its optimizer.
        generators: every source of draws, by name.
        epoch: epochs that are complete.
        history: one record for each.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    generators: Mapping[str, torch.Generator]
    epoch: int
    history: list[dict[str, float]]


def save(path: Path, progress: Progress, recipe: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one before it stays until the new one is whole."""
    state = {
        "recipe": dict(recipe),
        "epoch": progress.epoch,
        "history": progress.history,
        "module": progress.module.state_dict(),
        "optimizer": progress.optimizer.state_dict(),
        "generators": {name: g.get_state() for name, g in progress.generators.items()},
        "global_generator": torch.get_rng_state(),  # dropout draws from it
    }
    write_atomically(path, lambda p: torch.save(state, p))


def load(path: Path, progress: Progress, recipe: Mapping[str, Any]) -> None:
    """Bring a training to where a checkpoint was written.

    Raises:
        InputError: if the checkpoint belongs to another recipe or network, or cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["recipe"] != dict(recipe):
            raise InputError(f"{path} was written under another recipe; choose another folder or delete it.")
        progress.module.load_state_dict(state["module"])
        progress.optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be used ({error}); delete it to start this training again.") from error
    for name, generator in progress.generators.items():
        generator.set_state(state["generators"][name])
    torch.set_rng_state(state["global_generator"])
    progress.epoch, progress.history = state["epoch"], state["history"]
