"""What recalibration costs in ResNet-50: parameters, operations, and latency, side by side in one process.

    python benchmarks/use.py

Squeeze-and-excitation (ours, which equals torchvision's), torchvision's own in the same places, MS-SAR with several
scales and ratios, and timm's attention modules; 224 px, channels last, evaluation mode. Then a training step of
ResNet-20 at 32 px, float32, whose maps divide into 4 x 4 cells. Rounds are interleaved; reported are medians of times
paired by round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import SqueezeExcitation

import whatwhere as ww
from whatwhere.files import write_json
from whatwhere.lab.provenance import hardware, versions

METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "se": ("se", {}),
    "se, torchvision's": (lambda c: SqueezeExcitation(c, c // 16), {}),
    "ms_sar (default: 1, 2, 4, ratio 16)": ("ms_sar", {}),
    "ms_sar, scales 1, 2": ("ms_sar", {"scales": (1, 2)}),
    "ms_sar, scales 2, 4": ("ms_sar", {"scales": (2, 4)}),
    "ms_sar, ratio 64": ("ms_sar", {"ratio": 64}),
    "ms_sar, lean: scales 1, 2, ratio 192": ("ms_sar", {"scales": (1, 2), "ratio": 192}),
    "ms_sar, per-cell": ("ms_sar", {"weights": "per-cell"}),
    "ms_sar, bilinear": ("ms_sar", {"upsample": "bilinear"}),
    "cbam": ("cbam", {}),
    "coord": ("coord", {}),
    "eca": ("eca", {}),
}


def seconds(module: torch.nn.Module, x: torch.Tensor) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        module(x)
    return time.perf_counter() - started


def step_seconds(module: torch.nn.Module, x: torch.Tensor) -> float:
    started = time.perf_counter()
    module(x).square().mean().backward()
    took = time.perf_counter() - started
    module.zero_grad()
    return took


def timed(
    nets: dict[str, torch.nn.Module], x: torch.Tensor, rounds: int, measured: Callable[..., float]
) -> dict[str, np.ndarray]:
    """Seconds of each network in every round, channels last; the networks take turns."""
    x = x.contiguous(memory_format=torch.channels_last)
    for module in nets.values():
        measured(module.to(memory_format=torch.channels_last), x)  # the first is slow
    took = [[measured(module, x) for module in nets.values()] for _ in range(rounds)]
    return dict(zip(nets, np.array(took).T, strict=True))


def times_of(took: dict[str, np.ndarray], name: str, unit: str) -> list[float]:
    """The extra time of `name` as a multiple of that of `unit`: of medians, and 95 % by bootstrap over rounds."""
    extra, base = (took[k] - took["none"] for k in (name, unit))
    picks = np.random.default_rng(0).integers(len(extra), size=(2000, len(extra)))
    drawn = np.median(extra[picks], 1) / np.median(base[picks], 1)
    return [float(np.median(extra) / np.median(base)), *map(float, np.quantile(drawn, (0.025, 0.975)))]


def training(rounds: int) -> dict[str, Any]:
    """Milliseconds of a training step, and the same as a multiple of the plain network's."""
    plain = ww.load_model("cifar/resnet20", classes=100)
    nets = {"none": plain.module.train()}
    for name in ("se", "ms_sar (default: 1, 2, 4, ratio 16)", "ms_sar, per-cell"):
        method, options = METHODS[name]
        nets[name] = ww.use.recalibrate(plain, method, **options).module.train()
    took = timed(nets, torch.randn(128, 3, 32, 32), rounds, step_seconds)
    return {
        name: {"ms a step of 128": 1000 * float(np.median(t)), "of plain": float(np.median(t / took["none"]))}
        for name, t in took.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/use.json"))
    args = parser.parse_args()
    plain = ww.load_model("torchvision/resnet50")
    nets = {"none": plain.module}
    cost: dict[str, Any] = {}
    for name, (method, options) in METHODS.items():
        gated = ww.use.recalibrate(plain, method, **options)
        nets[name] = gated.module
        (p0, p1), (f0, f1) = gated.module.surgery.parameters, gated.module.surgery.flops
        cost[name] = {"parameters": p1 - p0, "parameters %": 100 * (p1 / p0 - 1), "flops %": 100 * (f1 / f0 - 1)}
    for module in nets.values():
        module.eval()
    took = timed(nets, torch.randn(args.batch, 3, 224, 224), args.rounds, seconds)
    for name, row in cost.items():
        row["ms a picture"] = 1000 * float(np.median(took[name])) / args.batch
        row["latency %"] = 100 * float(np.median(took[name] / took["none"] - 1))
        row["overhead over SE's"] = times_of(took, name, "se")
        row["overhead over torchvision's SE's"] = times_of(took, name, "se, torchvision's")
    result = {
        "batch": args.batch,
        "rounds": args.rounds,
        "methods": cost,
        "none, ms a picture": 1000 * float(np.median(took["none"])) / args.batch,
        "training step, ResNet-20": training(args.rounds),
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=1))
    write_json(args.out, result)


if __name__ == "__main__":
    main()
