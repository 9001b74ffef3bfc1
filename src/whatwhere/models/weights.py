"""Weights of networks in files: only tensors are ever unpickled, and files are written atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.files import write_atomically
from whatwhere.fingerprints import fingerprint
from whatwhere.network import Network


def random_weights(net: Network) -> list[str]:
    """A note if a network still has the random weights that it was loaded with."""
    if not net.drawn or net.drawn != fingerprint(net.module):
        return []
    return [
        f"{net.name} has random weights: it was loaded without weights and not trained. Give weights or pretrained."
    ]


def load_weights(module: nn.Module, file: str | os.PathLike[str], *, strict: bool = True) -> None:
    """Read tensors from a file into a module, in place; only tensors are ever unpickled.

    Raises:
        InputError: if the file is missing, cannot be read, or does not fit.
    """
    state = read_tensors(Path(file))
    try:
        missing, unexpected = module.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        raise InputError(
            f"weights={os.fspath(file)!r} do not fit the network: {_shortened(error)} "
            "Check the model's name, classes and width"
            + (", or in Python give strict=False to leave out tensors that only one of the two has." if strict else ".")
        ) from error
    if len(unexpected) == len(state):
        raise InputError(f"weights={os.fspath(file)!r} has no tensor of this network's; it misses {missing[:3]}, …")


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
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise InputError(f"weights={str(file)!r} holds a {type(state).__name__}, not a state_dict (names to tensors).")
    return state


def _shortened(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 400 else text[:400] + " …"
