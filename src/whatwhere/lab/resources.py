"""Engines by name, and what they give to each cell. Light: `--help` reads this without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from whatwhere.errors import InputError, unknown

RAY, SLURM, LOCAL, DEBUG = "ray", "slurm", "submitit-local", "submitit-debug"
ENGINES = (RAY, SLURM, LOCAL, DEBUG)
OF_JOBS = ("hours", "partition", "slurm")  # Ray has none of these


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What an engine gives to each cell.

    Attributes:
        cpus_per_cell: cores, with --engine; 1 if not given.
        gpus_per_cell: GPUs, with --engine; with Ray also a part of one, such as 0.25.
        memory_per_cell: memory in GB, with --engine.
        hours: with SLURM: after so long a job is ended, queued again, and goes on from its checkpoint; 4 if not given.
        partition: with SLURM: of the cluster.
        slurm: with SLURM: further options of sbatch, such as account=lab,constraint=a100.
    """

    cpus_per_cell: int | None = None
    gpus_per_cell: float | None = None
    memory_per_cell: float | None = None
    hours: float | None = None
    partition: str | None = None
    slurm: tuple[str, ...] | None = None

    @property
    def options(self) -> Mapping[str, str]:
        """The further options of sbatch.

        Raises:
            InputError: for one that is not NAME=VALUE.
        """
        pairs = [str(option).lstrip("-").partition("=") for option in self.slurm or ()]
        for option, (name, _, value) in zip(self.slurm or (), pairs, strict=True):
            if not (name and value):
                raise InputError(f"slurm={option!r} must be NAME=VALUE, such as account=lab; several with commas.")
        return {name: value for name, _, value in pairs}

    def given(self) -> dict[str, Any]:
        """Those that were given."""
        return {f.name: value for f in fields(Resources) if (value := getattr(self, f.name)) is not None}


def check_engine(engine: Any, workers: int, resources: Resources, *, kept: bool = True, device: str = "auto") -> None:
    """Refuse what no engine can do, before anything runs.

    Args:
        engine: a name, with an address behind a colon for Ray; an object; or None.
        workers: processes of this machine.
        resources: for each cell.
        kept: whether there is a folder for what cells give, that other machines see.
        device: that cells ask for.

    Raises:
        InputError: for an unknown name, for options that go with another engine, and for values out of range.
    """
    named = engine if isinstance(engine, str) else None
    if named is not None:
        _check_named(named, workers, kept)
    _check_used(named, resources)
    _check_values(named, resources)
    if named is not None and device.startswith("cuda") and not resources.gpus_per_cell:
        raise InputError(f"device={device!r} with engine={engine!r}: cells get no GPU; give gpus_per_cell=1.")


def _check_named(engine: str, workers: int, kept: bool) -> None:
    name, colon, address = engine.partition(":")
    if name not in ENGINES:
        raise unknown("engine", engine, (*ENGINES, "ray:ADDRESS"))
    if colon and (name != RAY or not address):
        raise InputError(f"engine={engine!r}: only Ray takes an address, as ray:HOST:PORT; else give {name!r} alone.")
    if workers:
        raise InputError(
            f"workers={workers} and engine={engine!r}: give one of them; the engine says how many at once."
        )
    if not kept and name != RAY:
        raise InputError(f"engine={engine!r} needs out=FOLDER, a folder that the nodes see as well.")


def _check_used(named: str | None, resources: Resources) -> None:
    ray = named is not None and named.startswith(RAY)
    for option in resources.given():
        if named is None:
            raise InputError(f"{option}={getattr(resources, option)!r} goes with engine=ray or engine=slurm; add one.")
        if ray and option in OF_JOBS:
            raise InputError(
                f"{option}={getattr(resources, option)!r} goes with engine=slurm, not {named!r}; leave it out."
            )


def _check_values(named: str | None, resources: Resources) -> None:
    least = {"cpus_per_cell": 1, "gpus_per_cell": 0}
    for option, value in resources.given().items():
        if isinstance(value, int | float) and not (math.isfinite(value) and value >= least.get(option, 0.01)):
            raise InputError(f"{option}={value}: give {least.get(option, 0.01)} or more.")
    gpus = resources.gpus_per_cell or 0
    if gpus % 1 and (gpus > 1 or not str(named).startswith(RAY)):
        raise InputError(f"gpus_per_cell={gpus}: give a whole number; Ray alone shares one GPU, as 0.5.")
    _ = resources.options
