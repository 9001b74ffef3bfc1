"""What recalibration costs in ResNet-50: parameters, operations, and latency, side by side in one process.

    python benchmarks/recalibration.py

Squeeze-and-excitation (ours, which equals torchvision's), torchvision's own in the same places, MS-SAR over scales and
ratios, and timm's peers; 224 px, channels last, evaluation. Rounds are interleaved; the fastest of each counts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torchvision.ops import SqueezeExcitation

import whatwhere as ww
from whatwhere.files import write_json
from whatwhere.runs.provenance import hardware, versions

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recalibration.json"))
    args = parser.parse_args()
    plain = ww.load_model("torchvision/resnet50")
    nets = {"none": plain.module}
    cost: dict[str, Any] = {}
    for name, (method, options) in METHODS.items():
        gated = ww.recalibrate(plain, method, **options)
        nets[name] = gated.module
        (p0, p1), (f0, f1) = gated.module.surgery.parameters, gated.module.surgery.flops
        cost[name] = {"parameters": p1 - p0, "parameters %": 100 * (p1 / p0 - 1), "flops %": 100 * (f1 / f0 - 1)}
    x = torch.randn(args.batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    best = dict.fromkeys(nets, float("inf"))
    for module in nets.values():
        module.eval().to(memory_format=torch.channels_last)
        seconds(module, x)
    for _ in range(args.rounds):
        for name, module in nets.items():
            best[name] = min(best[name], seconds(module, x))
    base = best["se"] - best["none"]
    for name, row in cost.items():
        extra = best[name] - best["none"]
        row.update({"ms a picture": 1000 * best[name] / args.batch, "latency %": 100 * extra / best["none"],
                    "overhead over SE's": extra / base})  # fmt: skip
    result = {
        "batch": args.batch, "none, ms a picture": 1000 * best["none"] / args.batch, "methods": cost,
        "hardware": hardware(), "versions": versions(),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    write_json(args.out, result)


if __name__ == "__main__":
    main()
