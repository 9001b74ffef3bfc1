"""Where networks run: what a device may be called, and whether it is there."""

from __future__ import annotations

import os
import re

from whatwhere.errors import InputError

NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def usable_cores() -> int:
    """Cores that this process may use: of a job or a container, those that it was given."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_device(device: str, *, here: bool = True) -> None:
    """Refuse a device before anything runs on it.

    Libraries know more names than these (tpu, meta, xpu), on which nothing here runs, and say so each in its own way,
    after training has begun.

    Args:
        device: as the user gave it.
        here: whether it must be there, too; another machine may have what this one has not.

    Raises:
        InputError: for another name, or a device that this machine has not.
    """
    if not NAMES.fullmatch(str(device)):
        raise _unusable(device, "known are auto, cpu, cuda and mps")
    if here:
        _check_there(str(device))


def _check_there(device: str) -> None:
    import torch

    kind, _, index = device.partition(":")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise _unusable(device, "PyTorch finds no Apple GPU here")
    if kind == "cuda" and int(index or 0) >= (found := torch.cuda.device_count()):
        raise _unusable(device, f"PyTorch finds {found or 'no'} GPU{'s' if found > 1 else ''} here")


def _unusable(device: object, why: str) -> InputError:
    return InputError(f"device={str(device)!r} cannot be used ({why}); give 'auto' or 'cpu'.")
