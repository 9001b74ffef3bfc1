"""The published read-out written out in plain PyTorch and SciPy, beside `official` of this package; prints both.

    python reproductions/islam2020/run.py vgg11-trunk --weights W.safetensors --data IMAGENET-500 --test PHOTOS
    python reproductions/islam2020/published.py --weights W.safetensors --data IMAGENET-500 --test PHOTOS

Nothing of `whatwhere.hold` is used but the choice of pictures: features by layers of its own, resized with aligned
corners to 28 x 28, one 3 x 3 convolution without padding, batch norm, sigmoid, the output resized to 224 x 224 (corners
not aligned) before loss and score, SGD (0.1, x 0.1 after epoch 10, momentum 0.9, weight decay 1e-4), 15 epochs, batches
of 32, one target at a time.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from run import network
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

import whatwhere as ww
from whatwhere.hold.studies.pictures import pictures_of, prepared
from whatwhere.hold.studies.readout_result import ReadoutResult

SIZE, SEEDS = 224, (0, 1)
TAPS = (2, 6, 13)  # the last map of each resolution, after ReLU
HERE = Path(__file__).parent / "at-224"


def target(name: str) -> Tensor:
    """(224, 224): the maps as papers.md gives them, position by position."""
    at = torch.arange(SIZE, dtype=torch.float32)
    if name == "H":
        return (at / (SIZE - 1)).expand(SIZE, SIZE)
    if name == "HS":
        return (0.5 + 0.5 * torch.cos(2 * math.pi * 2.5 * ((at + 0.5) / SIZE - 0.5 / 256)))[:, None].expand(SIZE, SIZE)
    d = (at - (SIZE - 1) / 2) ** 2
    bell = torch.exp(-(d[:, None] + d[None]) / (2 * (0.495 * SIZE) ** 2))
    return (bell - bell.min()) / (bell.max() - bell.min())


def features(net: nn.Module, x: Tensor) -> Tensor:
    """(N, 448, 28, 28)."""
    maps = []
    for i, layer in enumerate(net.features):
        x = layer(x)
        if i in TAPS:
            maps.append(interpolate(x.clone(), size=(28, 28), mode="bilinear", align_corners=True))
    return torch.cat(maps, 1)


def train(x: Tensor, wanted: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    readout = nn.Sequential(nn.Conv2d(x.shape[1], 1, 3), nn.BatchNorm2d(1), nn.Sigmoid())
    optimizer = torch.optim.SGD(readout.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for epoch in range(15):
        optimizer.param_groups[0]["lr"] = 0.1 if epoch < 10 else 0.01
        for rows in torch.randperm(len(x)).split(32):
            out = interpolate(readout(x[rows]), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
            loss = mse_loss(out, wanted.expand_as(out))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return readout.eval()


def spc(readout: nn.Module, x: Tensor, wanted: Tensor) -> float:
    with torch.no_grad():
        out = interpolate(readout(x), size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
    return sum(float(spearmanr(p.flatten(), wanted.flatten())[0]) for p in out) / len(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True, help="pictures to fit")
    parser.add_argument("--test", required=True, help="pictures to test")
    args = parser.parse_args()
    net = network("vgg11-trunk", args.weights)
    chosen = pictures_of(ww.load_data(args.data), ww.load_data(args.test), 500, 200, 0)
    with torch.no_grad():
        parts = {
            name: torch.cat([features(net.module, x) for _, x in prepared(split, net.preprocessing, 32)])
            for name, split in (("fit", chosen.fit), ("held out", chosen.held_out), ("test", chosen.test))
        }
    fit = torch.cat([parts["fit"], parts["held out"]])
    ours = ReadoutResult.load(HERE / "vgg11-trunk")
    print("| target | published pipeline, seeds 0, 1 | mean | `official` | difference |")
    print("| --- | --- | --- | --- | --- |")
    for name in ("H", "G", "HS"):
        wanted = target(name)
        found = [spc(train(fit, wanted, seed), parts["test"], wanted) for seed in SEEDS]
        (row,) = ours.of(site="all", target=name, inputs="pictures", readout="official", kernel=3)
        mean = sum(found) / len(found)
        each = ", ".join(f"{value:.3f}" for value in found)
        print(f"| {name} | {each} | {mean:.3f} | {row.spc.mean:.3f} | {row.spc.mean - mean:+.3f} |", flush=True)


if __name__ == "__main__":
    main()
