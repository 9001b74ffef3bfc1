"""Does a collapsed network run as fast as its operations say? Time against FLOPs, and how long planning takes.

    python benchmarks/collapse.py [--threads 2] [--repeats 9]

Three networks run in turn, in one process: the original, the collapsed one, and what no collapse can be faster than,
the layers before the cut alone (`ww.need.truncate`: these, a mean, one linear layer). Medians of the ratios over the
repeats. Weights are random; times do not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

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


def interleaved(runs: Sequence[Callable[[], object]], repeats: int) -> list[tuple[float, ...]]:
    """The seconds of each, in turn, for each repeat."""
    for run in runs:
        run()
    return [tuple(seconds(run) for run in runs) for _ in range(repeats)]


def planning(name: str) -> float:
    """Seconds to list the sites of a network and find its cuts."""
    net = ww.load_model(name)
    return seconds(lambda: ww.sites(net).cuts)


def rows(name: str, repeats: int) -> None:
    net = ww.load_model(name)
    cuts = ww.sites(net).cuts
    for share in SHARES:
        cut = cuts[-1 - round(share * (len(cuts) - 1))]
        small, prefix = ww.need.collapse(net, cut.name), ww.need.truncate(net, cut.name)
        before, after = small.module.surgery.flops  # type: ignore[union-attr]
        for batch in BATCHES:
            x = torch.randn(batch, *(net.input_size or (3, 224, 224)))
            with torch.no_grad():
                times = interleaved([lambda m=n.module: m(x) for n in (net, small, prefix)], repeats)  # noqa: B023
            print(f"| {name} | {cut.name} | {batch} | {shown(times, after / before)} |", flush=True)


def shown(times: list[tuple[float, ...]], flops: float) -> str:
    ours = sorted(b / a for a, b, _ in times)
    ratio, alone = statistics.median(ours), statistics.median(c / a for a, _, c in times)
    over = statistics.median(b / c for _, b, c in times)
    return f"{flops:.3f} | {ratio:.3f} [{ours[0]:.3f}, {ours[-1]:.3f}] | {ratio / flops:.2f} | {alone:.3f} | {over:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in PLANNED:
        print(f"{name}: sites and cuts in {planning(name):.2f} s", flush=True)
    print(
        "\n| network | GAP before | batch | FLOPs | time [range] | time / FLOPs | layers before alone | over these |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name in MODELS:
        rows(name, args.repeats)


if __name__ == "__main__":
    main()
