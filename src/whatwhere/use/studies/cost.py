"""What recalibration costs, before anything is trained: absolute, and beside the plain network."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from whatwhere.cost import Cost, cost
from whatwhere.data import load_data
from whatwhere.report.page import Report, Table, write_report
from whatwhere.runs.provenance import command, hardware, versions
from whatwhere.sites import blank_picture, evaluating
from whatwhere.studies.recalibration.cell import NONE, build
from whatwhere.studies.recalibration.study import cell_of, checked_methods

FOLDER = "cost"
NOTES = (
    "FLOPs: 2 for each multiply-add of convolutions and linear layers.",
    "Latency: median of interleaved forward passes on the CPU, in evaluation mode, channels last; its per cent is the "
    "median of ratios within a round, and noisy: repeat it on a quiet machine.",
    "Kept: bytes that a training step keeps of one picture for the backward pass, float32.",
)


def recalibration_cost(
    model: str,
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    methods: Sequence[str] = (NONE, "se", "ms_sar"),
    width: float = 1.0,
    batch: int = 16,
    rounds: int = 10,
) -> dict[str, Cost]:
    """Parameters, operations, latency and training memory of a network with each method; nothing is trained.

    >>> ww.recalibration_cost("timm/resnet50", "photos/", methods=["se", "ms_sar"])["ms_sar"].parameters

    Args:
        model: by name.
        data: by name or folder: how many classes there are, and how large a picture is.
        out: folder in which `cost/` gets table.csv and index.html; None writes nothing.
        methods: as of `ww.recalibration_study`; the plain network, `none`, is always among them.
        width: width factor of cifar/ networks.
        batch: pictures in a forward pass.
        rounds: forward passes of each network, in turn.

    Raises:
        InputError: for an unknown method or model.
    """
    names, loaded = checked_methods(methods, model), load_data(os.fspath(data))
    shared = {"model": model, "options": {"classes": len(loaded.classes), "width": width}, "recipe": {}}
    nets = {name: build(cell_of(name, 0, shared, {}).config) for name in names}
    size = loaded.train.shape(nets[NONE].preprocessing)
    found = {name: cost(net, input_size=size, batch=batch, seconds=0) for name, net in nets.items()}
    took = _rounds({name: net.module for name, net in nets.items()}, size, batch, rounds)
    found = {n: _timed(c, 1000 * float(np.median(took[n])) / batch) for n, c in found.items()}
    if out is not None:
        lines = cost_lines(found, {n: float(np.median(t / took[NONE])) for n, t in took.items()})
        write_report(Path(out) / FOLDER, _report(model, size, lines))
    return found


def _timed(c: Cost, latency_ms: float) -> Cost:
    return Cost(**{**c.to_dict(), "latency_ms": latency_ms})


def _rounds(
    nets: Mapping[str, nn.Module], size: tuple[int, int, int], batch: int, rounds: int
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Seconds of every forward pass; networks take turns, so that a busy machine slows all alike."""
    took: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(rounds):
        for name, module in nets.items():
            pictures = blank_picture(module, size).expand(batch, *size).contiguous(memory_format=torch.channels_last)
            with evaluating(module):
                started = time.perf_counter()
                module(pictures)
                took[name].append(time.perf_counter() - started)
    return {name: np.array(seconds) for name, seconds in took.items()}


def cost_lines(found: Mapping[str, Cost], slower: Mapping[str, float]) -> list[dict[str, str]]:
    """One line for each method.

    Args:
        found: what each network costs, the plain one among them.
        slower: time of a forward pass as a multiple of the plain network's.
    """
    base = found[NONE]
    return [
        {
            "method": name,
            "parameters": f"{c.parameters:,}", "extra": _extra(c.parameters, base.parameters, ",.0f"),
            "MFLOPs": f"{c.flops / 1e6:,.2f}", "extra MFLOPs": _extra(c.flops / 1e6, base.flops / 1e6),
            "ms a picture": f"{c.latency_ms:.2f} ({100 * (slower[name] - 1):+.1f} %)",
            "MB kept": f"{c.kept_bytes / 1e6:.2f}", "extra MB": _extra(c.kept_bytes / 1e6, base.kept_bytes / 1e6),
        }
        for name, c in found.items()
    ]  # fmt: skip


def _extra(value: float, base: float, how: str = ",.2f") -> str:
    return f"{value - base:+{how}} ({100 * (value / base - 1):+.2f} %)"


def _report(model: str, size: Sequence[int], lines: Sequence[Mapping[str, str]]) -> Report:
    return Report(
        title=f"What does recalibration cost in {model}?",
        lead=f"Each method inside the same network, a picture of {' x '.join(map(str, size))}; nothing is trained.",
        tables=[Table("Absolute, and beside the plain network", lines)],
        notes=NOTES,
        facts={"provenance": {"command": command(), "versions": versions(), "hardware": hardware()}},
    )
