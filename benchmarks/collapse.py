"""Does a collapsed network run as fast as its operations say? Time against FLOPs, and how long planning takes.

    python benchmarks/collapse.py [--threads 2] [--repeats 9]

Each collapsed network runs in turn with its original, in one process: the ratio of their times, the median over the
repeats, beside the ratio of their FLOPs, which is the floor. Weights are random; times do not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import whatwhere as ww

MODELS = ("torchvision/vgg16_bn", "torchvision/resnet50", "timm/tf_efficientnet_lite0")
PLANNED = ("torchvision/mobilenet_v2", "torchvision/densenet121")
SHARES = (0.25, 0.5, 0.75)  # of the cuts, from the last
BATCHES = (1, 32)


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def interleaved(a: Callable[[], object], b: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """The median ratio of b's time to a's, each pair measured side by side, and its smallest and largest."""
    a(), b()
    ratios = [y / x for x, y in ((seconds(a), seconds(b)) for _ in range(repeats))]
    return statistics.median(ratios), min(ratios), max(ratios)


def planning(name: str) -> float:
    """Seconds to list the sites of a network and find its cuts."""
    net = ww.load_model(name)
    return seconds(lambda: ww.sites(net).cuts)


def rows(name: str, repeats: int) -> None:
    net = ww.load_model(name)
    cuts = ww.sites(net).cuts
    for share in SHARES:
        cut = cuts[-1 - round(share * (len(cuts) - 1))]
        small = ww.need.collapse(net, cut.name)
        before, after = small.module.surgery.flops  # type: ignore[union-attr]
        for batch in BATCHES:
            x = torch.randn(batch, *(net.input_size or (3, 224, 224)))
            with torch.no_grad():
                ratio, low, high = interleaved(lambda: net.module(x), lambda: small.module(x), repeats)  # noqa: B023
            floor = after / before
            times = f"{ratio:.3f} [{low:.3f}, {high:.3f}] | {ratio / floor:.2f}"
            print(f"| {name} | {cut.name} | {batch} | {floor:.3f} | {times} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in PLANNED:
        print(f"{name}: sites and cuts in {planning(name):.2f} s", flush=True)
    print(
        "\n| network | GAP before | batch | FLOP ratio | time ratio [range] | time / FLOPs |\n|---|---|---|---|---|---|"
    )
    for name in MODELS:
        rows(name, args.repeats)


if __name__ == "__main__":
    main()
