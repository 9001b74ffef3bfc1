"""Where a result comes from: versions, hardware, the command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("whatwhere", "torch", "torchvision", "timm", "datasets", "lightning-fabric", "numpy", "scipy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide numbers."""
    return {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}


@cache  # they are read from files, which takes a cell that does little longer than all the rest
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _of_a_checkout() if package == "whatwhere" else "not installed"


def _of_a_checkout() -> str:
    from whatwhere import __version__  # where the package is not installed, and has no metadata

    return __version__


def hardware() -> dict[str, Any]:
    """The processor, the threads torch uses, and the accelerators."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def provenance(seconds: float) -> dict[str, Any]:
    """Where a result comes from, and how many seconds it took."""
    return {"command": command(), "versions": versions(), "hardware": hardware(), "seconds": round(seconds, 1)}


def command() -> str:
    """The command line that started this process, without the folder of the program, as a shell takes it."""
    name = Path(sys.argv[0]).name
    return shlex.join(["whatwhere" if name == "__main__.py" else name, *sys.argv[1:]])
