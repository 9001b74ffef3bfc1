"""The closed-form read-out against the published one, on the same pictures, in one process.

    python benchmarks/hold.py --data IMAGENET-500 --test PHOTOS --weights VGG16.safetensors

The quarter-width VGG-16 of reproductions/fan2020 at 224 px, all five levels together, targets H, V, G, HS, VS.

* ours: one pass over the pictures, moments, one eigendecomposition, all targets and penalties;
* as published: for each target a training of its own, 15 epochs, the frozen network in every step. One epoch of one
  target is measured (the fastest of some) and multiplied by 15 epochs and 5 targets: every epoch is the same work;
* official, ours: the same training with the features kept in memory and all targets side by side, in full.

The floor of ours is one forward pass of the network over the pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.files import write_json
from whatwhere.hold.features import Group, Reader, Tap, taps_of
from whatwhere.hold.official import Official, OfficialReadOut, train_readouts
from whatwhere.hold.ridge import RidgeFit
from whatwhere.hold.score import score
from whatwhere.hold.targets import brought_to, stack, targets_of
from whatwhere.lab.provenance import hardware, versions
from whatwhere.site import evaluating

NAMES, SIZE = ("H", "V", "G", "HS", "VS"), 224


def timed(f: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    value = f()
    return value, time.perf_counter() - started


def prepared(net: ww.Network, data: Data, most: int) -> Tensor:
    split = data.test.take(most)
    return torch.cat([net.preprocessing.normalise(x) for x, _ in split.batches(64, geometry=net.preprocessing)])


def plain_pass(net: ww.Network, x: Tensor) -> None:
    with evaluating(net.module):
        for part in x.split(32):
            net.module(part)


def ridge(net: ww.Network, taps: list[Tap], group: Group, x: Tensor, kernel: int) -> Any:
    fit = RidgeFit(group, targets_of(NAMES), kernel=kernel)
    held_out = len(x) // 5
    with evaluating(net.module), Reader(net, taps).reading() as read:
        for part in x[held_out:].split(32):
            fit.add(read(part))
        path = fit.solve()
        for part in x[:held_out].split(32):
            path.add(read(part))
    return path.best()


def published_epoch(net: ww.Network, taps: list[Tap], group: Group, x: Tensor, kernel: int) -> None:
    """One epoch for one target, the network run in every step."""
    readout = OfficialReadOut(group, targets_of(["H"]), kernel=kernel, at=SIZE, how=Official(epochs=1))
    with evaluating(net.module), Reader(net, taps).reading() as read:
        train_readouts([readout], lambda epoch: (read(part) for part in x.split(32)))


def cached(net: ww.Network, taps: list[Tap], group: Group, x: Tensor, kernel: int) -> OfficialReadOut:
    """All targets at once, the features kept; shuffled anew in every epoch."""
    readout = OfficialReadOut(group, targets_of(NAMES), kernel=kernel, at=SIZE)
    with evaluating(net.module), Reader(net, taps).reading() as read:
        parts = [read(part) for part in x.split(32)]
    maps = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}

    def batches(epoch: int) -> Any:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        return ({n: m[rows] for n, m in maps.items()} for rows in order.split(32) if len(rows) > 1)

    train_readouts([readout], batches)
    return readout


def spc(net: ww.Network, taps: list[Tap], readout: Any, x: Tensor) -> dict[str, float]:
    with evaluating(net.module), Reader(net, taps).reading() as read:
        predicted = torch.cat([readout.predict(read(part)) for part in x.split(32)])
    goals = stack(targets_of(NAMES), SIZE)
    return {
        n: float(score(brought_to(predicted[:, t : t + 1], SIZE)[:, 0], goals[t]).spc.mean())
        for t, n in enumerate(NAMES)
    }


def compare(net: ww.Network, x: Tensor, test: Tensor, kernel: int, rounds: int) -> dict[str, Any]:
    taps = taps_of(net, "levels", input_size=(3, SIZE, SIZE))
    group = Group("all", tuple(taps))
    plain = min(timed(lambda: plain_pass(net, x))[1] for _ in range(rounds))
    solved, ours = min((timed(lambda: ridge(net, taps, group, x, kernel)) for _ in range(rounds)), key=lambda r: r[1])
    epoch = min(timed(lambda: published_epoch(net, taps, group, x, kernel))[1] for _ in range(rounds))
    trained, kept = timed(lambda: cached(net, taps, group, x, kernel))
    published = epoch * Official().epochs * len(NAMES)
    return {
        "kernel": kernel,
        "columns": group.channels * kernel * kernel,
        "pictures": len(x),
        "seconds": {
            "plain pass": plain,
            "ridge": ours,
            "published, one epoch of one target": epoch,
            "published, 15 epochs of 5 targets": published,
            "published, one target": epoch * Official().epochs,
            "official, cached and side by side": kept,
        },
        "ridge over floor": ours / plain,
        "published over ridge": published / ours,
        "published, one target, over ridge of five": epoch * Official().epochs / ours,
        "cached official over ridge": kept / ours,
        "SPC ridge": spc(net, taps, solved, test),
        "SPC official": spc(net, taps, trained, test),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="pictures to fit")
    parser.add_argument("--test", required=True, help="pictures to test")
    parser.add_argument("--weights", type=Path, help="of the quarter-width VGG-16")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/hold.json"))
    args = parser.parse_args()
    net = ww.load_model("cifar/vgg16", classes=100, width=0.25, weights=args.weights)
    net = replace(net, preprocessing=replace(net.preprocessing, size=(SIZE, SIZE)))
    net.module.to(memory_format=torch.channels_last)
    x, test = prepared(net, ww.load_data(args.data), args.pictures), prepared(net, ww.load_data(args.test), 200)
    result = {
        "read-outs": [compare(net, x, test, kernel, args.rounds) for kernel in (1, 3)],
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=1))
    write_json(args.out, result)


if __name__ == "__main__":
    main()
