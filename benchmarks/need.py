"""The test-time curve against a hook loop written by hand that gives the same numbers.

    python benchmarks/need.py                                    # times, on random weights and embedded pictures
    python benchmarks/need.py --network vgg16 --data DIR --weights FILE --full     # also the early stop

`resnet18`: ResNet-18 at 64 px, 8 cuts (its blocks), 10 draws, from the cut on; `vgg16`: the quarter-width VGG-16 of
reproductions/fan2020 at 32 px, 13 cuts (its convolutions). The floor is the network's own plain forward time scaled by
operations: one whole pass, and for each cut ten times what comes after it.
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
from whatwhere.data import Data, Split
from whatwhere.data.known_answer import known_answer
from whatwhere.files import write_json
from whatwhere.lab.provenance import hardware, versions
from whatwhere.need.cuts import cuts_of
from whatwhere.need.shuffling import draw
from whatwhere.need.studies.chunk import Removals, measure, seed_of_draw
from whatwhere.site import evaluating

REPEATS, METHOD = 10, "per-channel"


def network(name: str, weights: Path | None) -> ww.Network:
    if name == "vgg16":
        return ww.load_model("cifar/vgg16", classes=100, width=0.25, weights=weights)
    net = ww.load_model("torchvision/resnet18", classes=100, weights=weights)
    return replace(net, preprocessing=replace(net.preprocessing, size=(64, 64), crop_pct=1.0), input_size=(3, 64, 64))


def hook_loop(curve: Removals, split: Split, rows: range) -> dict[tuple[str, str], Tensor]:
    """What a user would write: for each cut and draw, hooks, and a full forward pass over all pictures."""
    modules = dict(curve.net.module.named_modules())
    blocks = [s.module for s in curve.cuts]
    counts: dict[tuple[str, str], Tensor] = {}
    with evaluating(curve.net.module):
        for k, cut in enumerate(curve.cuts):
            for repeat in range(REPEATS):
                right = []
                for number, (x, labels) in enumerate(batches(curve, split, rows)):
                    g = torch.Generator().manual_seed(seed_of_draw(curve.seed, METHOD, cut.name, repeat, number))
                    handles = [h for b in blocks[k:] for h in shuffled_at(modules[b], g)]
                    right.append((curve.net.module(x).argmax(1) == labels).cpu())
                    for h in handles:
                        h.remove()
                key = (METHOD, cut.name)
                counts[key] = counts.get(key, 0) + torch.cat(right).int()
    return counts


def shuffled_at(module: Any, g: torch.Generator) -> list[Any]:
    """Hooks on a convolution, or on a basic block: its shortcut and both convolutions, shuffled independently."""
    if isinstance(module, torch.nn.Conv2d):
        return [module.register_forward_pre_hook(lambda m, args: (shuffled(args[0], g),))]
    block, kept = module, list[Tensor]()

    def shortcut(m: Any, args: Any) -> Any:
        kept[:] = args
        return (shuffled(args[0], g),)

    return [
        block.register_forward_pre_hook(shortcut),
        block.conv1.register_forward_pre_hook(lambda m, args: (shuffled(kept[0], g),)),
        block.conv2.register_forward_pre_hook(lambda m, args: (shuffled(args[0], g),)),
    ]


def shuffled(x: Tensor, g: torch.Generator) -> Tensor:
    c, h, w = x.shape[1:]
    order = draw(METHOD, (c, h, w), g).view(c, h * w) - torch.arange(c)[:, None] * h * w
    return (
        x.flatten(2)
        .gather(2, order.to(x.device).expand(len(x), -1, -1))
        .view_as(x)
        .contiguous(memory_format=torch.channels_last)
    )


def batches(curve: Removals, split: Split, rows: range) -> list[tuple[Tensor, Tensor]]:
    prep, device = curve.net.preprocessing, next(curve.net.module.parameters()).device
    order = torch.arange(rows.start, rows.stop)
    served = split.batches(curve.batch_size, geometry=prep, order=order)
    return [(prep.normalise(x.to(device)), y.to(device)) for x, y in served]


def timed(f: Callable[[], Any]) -> tuple[Any, float]:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    started = time.perf_counter()
    value = f()
    wait()
    return value, time.perf_counter() - started


def plain_pass(curve: Removals, split: Split, rows: range) -> None:
    with evaluating(curve.net.module):
        for x, _ in batches(curve, split, rows):
            curve.net.module(x)


def floor_share(curve: Removals) -> float:
    """Plain passes that the operations of the whole curve amount to."""
    total = curve.table.total_flops
    return 1 + REPEATS * sum(1 - cut.flops_before / total for cut in curve.cuts)


def times(curve: Removals, split: Split, pictures: int, rounds: int) -> dict[str, float]:
    """Seconds of ours, of the loop and of the floor, side by side; the fastest of some rounds each."""
    rows = range(min(pictures, len(split)))
    draws = {(METHOD, cut.name): REPEATS for cut in curve.cuts}
    plain_pass(curve, split, rows)  # decode the pictures, wake the threads
    best = {"ours": float("inf"), "loop": float("inf"), "plain": float("inf")}
    for _ in range(rounds):
        for _ in range(5):
            best["plain"] = min(best["plain"], timed(lambda: plain_pass(curve, split, rows))[1])
        ours, seconds = timed(lambda: measure(curve, split, rows, draws))
        best["ours"] = min(best["ours"], seconds)
        loop, seconds = timed(lambda: hook_loop(curve, split, rows))
        best["loop"] = min(best["loop"], seconds)
    assert all((ours[place].hits == loop[place].numpy()).all() for place in loop), "the numbers differ"
    return {**best, "floor": best["plain"] * floor_share(curve), "pictures": len(rows)}


def early_stop(net: ww.Network, data: Data, loop_per_picture: float, batch: int, tolerance: float) -> dict[str, Any]:
    """Time and width of the intervals with the stop, against ten draws everywhere."""
    options: dict[str, Any] = {"methods": [METHOD], "repeats": REPEATS, "batch_size": batch}
    stopped, seconds = timed(lambda: ww.need.curve(net, data, tolerance=tolerance, **options))
    full, full_seconds = timed(lambda: ww.need.curve(net, data, **options))
    widths = [
        (a.drop.half_width, b.drop.half_width)
        for a, b in zip(stopped.points, full.points, strict=True)
        if a.drop and b.drop
    ]
    return {
        "pictures": len(data.test),
        "tolerance": tolerance,
        "seconds_stopped": seconds,
        "seconds_all_draws": full_seconds,
        "seconds_loop_extrapolated": loop_per_picture * len(data.test),
        "intact": stopped.intact[0].accuracy.mean,
        "half_widths_points": [[100 * a, 100 * b] for a, b in widths],
        "width_ratios": [a / b for a, b in widths],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("resnet18", "vgg16"), default="resnet18")
    parser.add_argument("--data", help="pictures; the embedded task if not given")
    parser.add_argument("--weights", type=Path, help="of the trained network, 100 classes")
    parser.add_argument("--pictures", type=int, default=256, help="for the times")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--full", action="store_true", help="also the early stop, on all test pictures")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/need.json"))
    args = parser.parse_args()

    net = network(args.network, args.weights)
    data = ww.load_data(args.data) if args.data else known_answer("where", train=12, test=max(args.pictures, 12))
    table = ww.sites(net)
    curve = Removals(
        net, table, cuts_of(table)[-8 if args.network == "resnet18" else 0 :], (METHOD,), "from", 0, args.batch
    )
    net.module.to(args.device, memory_format=torch.channels_last)
    t = times(curve, data.test, args.pictures, args.rounds)
    result: dict[str, Any] = {
        "ours_over_floor": t["ours"] / t["floor"],
        "loop_over_ours": t["loop"] / t["ours"],
        "loop_over_floor": t["loop"] / t["floor"],
        "seconds": t,
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=1))
    if args.full:
        stop = early_stop(net, data, t["loop"] / t["pictures"], args.batch, args.tolerance)
        stop["loop_over_stopped"] = stop["seconds_loop_extrapolated"] / stop["seconds_stopped"]
        result["early_stop"] = stop
        print(json.dumps(stop, indent=1))
    write_json(args.out, result)


if __name__ == "__main__":
    main()
