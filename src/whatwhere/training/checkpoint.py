"""Checkpoints: everything needed to resume exactly, written atomically, read without running code."""

from __future__ import annotations

import io
import pickle
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.files import write_bytes
from whatwhere.training.recipes import LATER


@dataclass
class Progress:
    """The state of a training; `load` updates its parts in place.

    Attributes:
        module: the network.
        optimizer: its optimizer.
        generators: every random generator, by name.
        epoch: number of complete epochs.
        history: one record for each complete epoch.
        averages: running averages of the weights, by name, if there are any.
        layers: generators that layers draw from on a GPU, by its kind; a checkpoint that holds none of this kind, from
            before they were kept or of another device, leaves them as they are.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    generators: Mapping[str, torch.Generator]
    epoch: int
    history: list[dict[str, float]]
    averages: Mapping[str, Tensor] = field(default_factory=dict)
    layers: Mapping[str, torch.Generator] = field(default_factory=dict)


def save(path: Path, progress: Progress, recipe: Mapping[str, Any], **about: Any) -> None:
    """Write a checkpoint; the previous one stays until the new one is complete.

    Args:
        path: the file.
        progress: the state to keep.
        recipe: of the training.
        **about: plain values that must be the same for another call to resume here (seed, pictures).
    """
    state = {
        "recipe": _plain(recipe),
        "about": _plain(about),
        "epoch": progress.epoch,
        "history": progress.history,
        "module": progress.module.state_dict(),
        "optimizer": progress.optimizer.state_dict(),
        "generators": _states(progress.generators),
        "global_generator": torch.get_rng_state(),  # dropout on a CPU draws from it
        **({"layer_generators": _states(progress.layers)} if progress.layers else {}),
        **({"averages": dict(progress.averages)} if progress.averages else {}),
    }
    content = io.BytesIO()  # on a full disk torch.save does not raise an OSError
    torch.save(state, content)
    write_bytes(path, content.getvalue())


def load(path: Path, progress: Progress, recipe: Mapping[str, Any], **about: Any) -> None:
    """Restore the state of a training from a checkpoint.

    Raises:
        InputError: if the checkpoint belongs to another recipe, seed, pictures or network, or cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        _refuse_another(path, state, recipe, about)
        progress.module.load_state_dict(state["module"])
        progress.optimizer.load_state_dict(state["optimizer"])
        for name, generator in progress.generators.items():
            generator.set_state(state["generators"][name])
        for name, drawn in state.get("layer_generators", {}).items():
            if name in progress.layers:
                progress.layers[name].set_state(drawn)
        for name, average in progress.averages.items():
            average.copy_(state["averages"][name])
        torch.set_rng_state(state["global_generator"])
        progress.epoch, progress.history = state["epoch"], state["history"]
    except InputError:
        raise
    except Exception as error:  # a damaged file makes torch raise many kinds
        raise InputError(f"{path} cannot be used ({_why(error)}); delete it to start this training again.") from error


def _states(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    return {name: generator.get_state() for name, generator in generators.items()}


def _why(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # its text explains how to run the code in the file
        return "not a checkpoint, or damaged"
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200)


def _refuse_another(path: Path, state: Mapping[str, Any], recipe: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Refuse what is said otherwise; of what a checkpoint from before says nothing, it is taken to be the same."""
    kept = state.get("about", {})
    seen = {**LATER, **_plain(state["recipe"]), **_plain(kept)}
    now = {**LATER, **_plain(recipe), **{k: v for k, v in _plain(about).items() if k in kept}}
    differing = [k for k in {**seen, **now} if seen.get(k, _Absent) != now.get(k, _Absent)]
    if differing:
        each = [f"{k} ({_shown(seen, k)} there, {_shown(now, k)} now)" for k in differing]
        raise InputError(
            f"{path} was written under another recipe: {', '.join(each)}; choose another folder or delete it."
        )


class _Absent:
    """Stands for what is not said; equal to nothing else."""


def _shown(values: Mapping[str, Any], key: str) -> str:
    return textwrap.shorten(repr(values[key]), 200, placeholder=" ...") if key in values else "nothing"


def _plain(value: Any) -> Any:
    """A value as it is kept and compared: tuples for lists, Python's numbers for NumPy's, which no checkpoint holds."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return float(value) if isinstance(value, Real) and not isinstance(value, int) else value
