"""Weights of networks in files: only tensors are ever unpickled, and files are written atomically."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.files import write_atomically
from whatwhere.fingerprints import fingerprint
from whatwhere.models.prefixes import renamed_as
from whatwhere.network import Network, broken_values

# Where checkpoints keep the tensors of the network.
INNER = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module")
RANDOM = "has random weights:"  # said of a network that was not trained


def random_weights(net: Network) -> list[str]:
    """A note if a network still has random weights that it was loaded with, all of them or some."""
    if not net.drawn or net.drawn != fingerprint(net.module):
        return []
    if net.partial:
        return [f"{net.name} has random weights in part: {net.partial}"]
    return [f"{net.name} {RANDOM} it was loaded without weights and not trained. Give weights or pretrained."]


def load_weights(module: nn.Module, file: str | os.PathLike[str], *, strict: bool = True) -> str:
    """Read tensors from a file into a module, in place; only tensors are ever unpickled.

    A prefix that the file's names have and the network's have not, or the other way round, is taken off or added, and a
    warning says so.

    Args:
        module: the network.
        file: a `.safetensors` file, or a PyTorch checkpoint of tensors.
        strict: the file must hold exactly the network's tensors; else a warning says what only one of the two has.

    Returns:
        Which of the network's tensors the file does not hold; "" if it holds all.

    Raises:
        InputError: if the file is missing, cannot be read, holds values that are not finite, or does not fit.
    """
    where = f"weights={os.fspath(file)!r}"
    state = read_tensors(Path(file))
    _check_values(state, where)
    state, renamed = renamed_as(state, module.state_dict(), where)
    _check_shapes(state, module.state_dict(), where)
    missing, unexpected = module.load_state_dict(state, strict=False)
    if len(unexpected) == len(state):
        sides = _sides(unexpected, missing)
        raise InputError(f"{where} do not fit the network: the file has no tensor of this network's; {sides}. {CHECK}.")
    if strict and (missing or unexpected):
        raise InputError(
            f"{where} do not fit the network: {_sides(unexpected, missing)}. {CHECK}; in Python, strict=False leaves "
            "out what only one of the two has."
        )
    if renamed:
        warnings.warn(renamed, stacklevel=3)
    left = _left(missing, len(module.state_dict()), where)
    if left or unexpected:
        extra = f"{len(unexpected)} of the file's {len(state)} tensors are left out: {_some(unexpected)}."
        warnings.warn(" ".join([left or where, extra] if unexpected else [left]), stacklevel=3)
    return left


CHECK = "Check the model's name, classes and width"


def _left(missing: Sequence[str], count: int, where: str) -> str:
    """What the file left as it was."""
    return f"{where} hold {count - len(missing)} of its {count} tensors, without {_some(missing)}." if missing else ""


def _sides(unexpected: Sequence[str], missing: Sequence[str]) -> str:
    """One name of each side, and how many there are."""
    sides = [("the file has", "the network has not", unexpected), ("the network has", "the file has not", missing)]
    return ", ".join(f"{here} {_some(names, 1)}, which {there}" for here, there, names in sides if names)


def _some(names: Sequence[str], count: int = 3) -> str:
    listed = ", ".join(map(repr, names[:count]))
    return listed + (f" and {len(names) - count} more" if len(names) > count else "")


def _check_values(state: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in state.items():
        found = broken_values(name, tensor)
        if found:
            wrong = int((~tensor.isfinite()).sum())
            raise InputError(
                f"{where}: {name} holds {found} in {wrong} of its {tensor.numel()} values; give weights of a training "
                "that did not diverge."
            )


def _check_shapes(state: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> None:
    wrong = [n for n, t in state.items() if n in own and isinstance(own[n], Tensor) and own[n].shape != t.shape]
    if wrong:
        name = wrong[0]
        raise InputError(
            f"{where} do not fit the network: size mismatch of {_some(wrong, 1)}, {tuple(state[name].shape)} in the "
            f"file and {tuple(own[name].shape)} in the network. {CHECK}."
        )


def save_weights(module: nn.Module, file: str | os.PathLike[str], about: Mapping[str, str] | None = None) -> None:
    """Write a module's tensors as safetensors; an interrupted write leaves no partial file.

    Args:
        module: any.
        file: where to.
        about: texts kept in the file's head; see `about_weights`.
    """
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in module.state_dict().items():
        kept = value.detach().cpu().contiguous()
        # Tied weights share memory, which safetensors refuses: each name gets a copy.
        at = kept.untyped_storage().data_ptr()
        tensors[name] = kept.clone() if at in seen else kept
        seen.add(at)
    write_atomically(Path(file), lambda p: save_file(tensors, p, metadata=dict(about) if about else None))


def about_weights(file: str | os.PathLike[str]) -> Mapping[str, str]:
    """The texts in a safetensors file's head; none for any other file."""
    try:
        with safe_open(file, framework="pt") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a plain PyTorch checkpoint."""
    if not file.is_file():
        raise InputError(f"weights={str(file)!r}: there is no such file.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # how torch refuses anything but tensors
        raise InputError(
            f"weights={str(file)!r} holds more than tensors, which could run code, or is not a PyTorch file; "
            "save the state_dict as .safetensors."
        ) from error
    except Exception as error:  # a broken file makes torch raise many kinds
        raise InputError(f"weights={str(file)!r} cannot be read: {type(error).__name__} {_shortened(error)}") from error
    return _tensors(state, file)


def _tensors(state: Any, file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which may keep them beside other things."""
    if not isinstance(state, dict):
        raise InputError(f"weights={str(file)!r} holds a {type(state).__name__}, not a state_dict (names to tensors).")
    for name in INNER:
        if isinstance(state.get(name), dict):
            return _tensors(state[name], file)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        there = ", ".join(map(repr, list(state)[:8])) or "nothing"
        raise InputError(
            f"weights={str(file)!r} holds no tensors by name; it holds {there}. Save the state_dict alone."
        )
    return tensors


def _shortened(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 400 else text[:400] + " …"
