"""A small run of every protocol, whose cells and numbers must stay what they are (see test_golden.py).

`python tests/golden_runs.py FOLDER [NAME ...]` writes the runs' folders again; only a number that is known to have been
wrong is a reason to commit them.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import whatwhere as ww
from small_segmenter import small_segmenter
from whatwhere.data import Data
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.position.official import Official
from whatwhere.runs.provenance import hardware
from whatwhere.studies.bottleneck.study import TUNING
from whatwhere.studies.position.pattern_study import pattern_study

RECIPE = ww.Recipe(epochs=1, batch_size=128, lr=0.02, crop_padding=0, flip=False)
SHOWN = ("study.json", "result.json")


def ruled() -> ww.Network:
    """A network whose weights follow from whole numbers, so that they are the same on every processor."""
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for p in module.parameters():
            steps = torch.arange(p.numel(), dtype=torch.float64)
            p.copy_((((steps * 7919) % 1009 - 504) / 2048).reshape(p.shape))
    return ww.Network(module, ww.Preprocessing(size=(16, 16)), "ruled", (3, 16, 16))


def few(n: int) -> Data:
    return Data("digits", {"test": ww.load_data("digits").test.take(n)})


def curve(out: Path) -> None:
    ww.dependency(ruled(), few(150), repeats=3, batch_size=16, out=out, quiet=True)


def curve_early(out: Path) -> None:
    ww.dependency(
        ruled(), few(150), methods=["per-channel", "rows"], repeats=6, tolerance=0.5, batch_size=16, out=out, quiet=True
    )


def trained(out: Path) -> None:
    ww.dependency_study(
        "cifar/vgg11", "digits", out=out, recipe=RECIPE, width=0.0625, shares=[0.5], seeds=[0], plain_shares=[0.0],
        repeats=2, quiet=True,
    )  # fmt: skip


def readout(out: Path) -> None:
    ww.position(
        ruled(), "digits", sites=["3", "6"], pictures=20, test_pictures=4, targets=["H", "G"], kernels=[3], blanks=["white"], size=14,
        readouts=["ridge", "official"], official=Official(epochs=1, batch_size=8), untrained=2, paddings=["circular"],
        out=out, quiet=True,
    )  # fmt: skip


def pattern(out: Path) -> None:
    pattern_study(ruled(), "digits", margin=4, pictures=12, paddings=["circular"], out=out, quiet=True)


def red_green(out: Path) -> None:
    ww.red_green(paddings=["none", "zeros"], seeds=[0, 1], epochs=2, pictures=(400, 100, 100), out=out, quiet=True)


def location(out: Path) -> None:
    ww.location_test(
        "digits", grid=2, rows=["zeros", "shuffled"], pictures=64, test_pictures=40, epochs=1, batch_size=16, out=out,
        quiet=True,
    )  # fmt: skip


def compare(out: Path) -> None:
    ww.recalibration_study(
        "cifar/resnet20", "digits", out=out, methods=["se", "wider"], seeds=[0], recipe=RECIPE, width=0.5, quiet=True
    )


def joint(out: Path) -> None:
    ww.joint_study(
        "cifar/resnet20", "digits", out=out, methods=["se"], seeds=[0], recipe=RECIPE, width=0.5,
        sites=["layers.0.2", "layers.2.2"], pictures=12, test_pictures=5, repeats=2, limit=20, quiet=True,
    )  # fmt: skip


def bottleneck(out: Path) -> None:
    net, streets = (
        ww.Network(small_segmenter(10), name="small"),
        drawn_streets(train=8, validation=4, test=4, size=(32, 48)),
    )
    concepts = {"named": ["part"], "positions": True, "only": ["part: w*", "part: crown", "place: *"]}
    recipe = replace(TUNING, epochs=1, batch_size=4)
    kinds = ["tuned", "ssb", "usb", "truth"]
    ww.bottleneck_study(net, streets, sites=["middle"], out=out, concepts=concepts, kinds=kinds, recipe=recipe,
                        quiet=True)  # fmt: skip


RUNS: dict[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (curve, curve_early, trained, readout, pattern, red_green, location, compare, joint, bottleneck)
}


def cost() -> dict[str, Any]:
    """What each method costs; latency is of this machine, and left out."""
    found = ww.recalibration_cost("cifar/resnet20", "digits", methods=["se", "ms_sar"], width=0.5, batch=2, rounds=1)
    return {name: {k: v for k, v in c.to_dict().items() if "latency" not in k} for name, c in found.items()}


def write(folder: Path, names: list[str]) -> None:
    """Run, and keep what was asked for and what came out: no weights, no figures."""
    for name in names or RUNS:
        print(name, flush=True)
        shutil.rmtree(folder / name, ignore_errors=True)
        RUNS[name](folder / name)
        for folder_or_file in sorted((folder / name).rglob("*")):
            if folder_or_file.name in ("checkpoints", "weights", "features"):
                shutil.rmtree(folder_or_file)
            elif (
                folder_or_file.is_file() and folder_or_file.name not in SHOWN and folder_or_file.parent.name != "cells"
            ):
                folder_or_file.unlink()
            elif folder_or_file.is_file():
                plain = json.loads(folder_or_file.read_text())
                folder_or_file.write_text(json.dumps(plain, separators=(",", ":")) + "\n")
    (folder / "cost.json").write_text(json.dumps(cost(), indent=1) + "\n")
    machine = {"cpu": hardware()["cpu"], "capability": torch.backends.cpu.get_cpu_capability()}
    (folder / "machine.json").write_text(json.dumps({**machine, "torch": torch.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(Path(sys.argv[1]), sys.argv[2:])
