"""What commands do to arguments before they hand them on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json
from whatwhere.models.load import random_weights
from whatwhere.network import Network
from whatwhere.runs.provenance import fingerprint
from whatwhere.training.recipes import Recipe


def listed(value: Any) -> list[Any] | None:
    """What was given once, several times ([a, b]) or with commas (a,b), as a list."""
    if value is None or isinstance(value, list):
        return value
    return value.split(",") if isinstance(value, str) else [value]


def numbers(value: Any) -> list[int] | None:
    """What `listed` gives, as whole numbers.

    Raises:
        InputError: for anything else.
    """
    try:
        every = listed(value)
        return None if every is None else [int(v) for v in every]
    except ValueError:
        raise InputError(f"{value!r}: give whole numbers with commas, such as 0,1,2.") from None


def shares(value: Any) -> list[float] | None:
    """What `listed` gives, as shares.

    Raises:
        InputError: for anything else than numbers from 0 to 1.
    """
    try:
        every = listed(value)
        found = None if every is None else [float(v) for v in every]
    except ValueError:
        found = [-1.0]
    if any(not 0 <= v <= 1 for v in found or ()):
        raise InputError(f"{value!r}: give shares from 0 to 1 with commas, such as 0.31,0.54.")
    return found


def only_for(protocol: str, given: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse options that are another protocol's.

    Args:
        protocol: whose options they are.
        given: for each option, what was given and its default.

    Raises:
        InputError: where the two differ.
    """
    strange = [f"--{name}" for name, (value, default) in given.items() if value != default]
    if strange:
        raise InputError(f"{', '.join(strange)}: for --protocol {protocol} only.")


def measures(name: str, value: Any, count: int) -> tuple[float, ...] | None:
    """What `listed` gives, as so many numbers; None stays None.

    Raises:
        InputError: for anything else.
    """
    every = listed(value)
    try:
        found = None if every is None else tuple(float(v) for v in every)
    except (TypeError, ValueError):
        found = ()
    if found is not None and len(found) != count:
        raise InputError(f"{name}={value!r}: give {count} numbers with commas, such as {','.join(['1'] * count)}.")
    return found


def given_only(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; the others keep the default of whom they are for."""
    return {name: value for name, value in options.items() if value is not None}


def adapted(recipe: Recipe, augment: bool, **changes: float | str | None) -> Recipe:
    """A recipe with some of its values replaced where something else was asked for."""
    values = {**recipe.to_dict(), **{k: v for k, v in changes.items() if v is not None}}
    changed = Recipe(**values)
    return changed if augment else changed.without_augmentation()


def check_start(out: Path, net: Network) -> None:
    """Keep with what weights a training in a folder began; it goes on from its checkpoint, whatever they are then.

    Raises:
        InputError: if one with other weights began there.
    """
    file, start = out / "start.json", {"network": net.name, "weights": fingerprint(net.module)}
    if not (file.exists() and (out / "checkpoint.pt").exists()):
        write_json(file, start)
    elif (seen := read_json(file)) != start:
        raise InputError(
            f"out={str(out)!r} holds a training that began with other weights ({seen} there, {start} now): of another "
            "model, width, seed or --weights; choose another folder, or the same settings."
        )


def announced(net: Network) -> Network:
    """The network; where its weights are random, that is said aloud."""
    for note in random_weights(net):
        print(f"Note: {note} Give --weights FILE or --pretrained true.")
    return net


def placed(net: Network, device: str) -> Network:
    """A network, its module moved to a device; `auto` is a GPU where there is one.

    Raises:
        InputError: for a device that is not there.
    """
    best = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        net.module.to(best if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        raise InputError(f"device={device!r} cannot be used ({str(error)[:80]}); give 'auto' or 'cpu'.") from error
    return net
