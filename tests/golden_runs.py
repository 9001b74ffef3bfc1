"""A small run of every protocol, whose cells and numbers must stay what they are (see test_golden.py).

`python tests/golden_runs.py FOLDER [NAME ...]` writes the runs' folders again, and with `--fold` only their results, from
the cells that are there; only a number that is known to have been wrong is a reason to commit them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import whatwhere as ww
from small_segmenter import small_segmenter
from whatwhere.data import Data
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.load import load_pictures
from whatwhere.lab.provenance import hardware
from whatwhere.lab.study import Study

RECIPE = ww.Recipe(epochs=1, batch_size=128, lr=0.02, crop_padding=0, flip=False)
SHOWN = ("study.json", "result.json")


def ruled() -> ww.Network:
    """A network whose weights follow from whole numbers, so that they are the same on every processor."""
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    ).eval()
    with torch.no_grad():
        for p in module.parameters():
            steps = torch.arange(p.numel(), dtype=torch.float64)
            p.copy_((((steps * 7919) % 1009 - 504) / 2048).reshape(p.shape))
    return ww.Network(module, ww.Preprocessing(size=(16, 16)), "ruled", (3, 16, 16))


def few(n: int) -> Data:
    return Data("digits", {"test": load_pictures("digits").test.take(n)})


def curve() -> Study[Any]:
    return ww.need.Curve(ruled(), few(150), repeats=3, batch_size=16)


def curve_early() -> Study[Any]:
    methods = ("per-channel", "rows")
    return ww.need.Curve(ruled(), few(150), methods=methods, repeats=6, tolerance=0.5, batch_size=16)


def trained() -> Study[Any]:
    return ww.need.Trained(
        "cifar/vgg11", "digits", recipe=RECIPE, width=0.0625, shares=(0.5,), seeds=(0,), plain_shares=(0.0,), repeats=2
    )


def readout() -> Study[Any]:
    return ww.hold.Readout(
        ruled(),
        "digits",
        sites=("3", "6"),
        pictures=20,
        test_pictures=4,
        targets=("H", "G"),
        kernels=(3,),
        blanks=("white",),
        size=14,
        readouts=("ridge", "official"),
        official=ww.hold.Official(epochs=1, batch_size=8),
        untrained=2,
        paddings=("circular",),
    )


def pattern() -> Study[Any]:
    return ww.hold.Pattern(ruled(), "digits", margin=4, pictures=12, paddings=("circular",))


def red_green() -> Study[Any]:
    return ww.hold.RedGreen(paddings=("none", "zeros"), seeds=(0, 1), epochs=2, pictures=(400, 100, 100))


def location() -> Study[Any]:
    return ww.hold.Location(
        "digits", grid=2, rows=("zeros", "shuffled"), pictures=64, test_pictures=40, epochs=1, batch_size=16
    )


def compare() -> Study[Any]:
    return ww.use.Compare("cifar/resnet20", "digits", methods=("se", "wider"), seeds=(0,), recipe=RECIPE, width=0.5)


def joint() -> Study[Any]:
    return ww.use.Joint(
        "cifar/resnet20",
        "digits",
        methods=("se",),
        seeds=(0,),
        recipe=RECIPE,
        width=0.5,
        sites=("layers.0.2", "layers.2.2"),
        pictures=12,
        test_pictures=5,
        repeats=2,
        limit=20,
    )


def bottleneck() -> Study[Any]:
    return ww.say.Compare(
        ww.Network(small_segmenter(10), name="small"),
        drawn_streets(train=8, validation=4, test=4, size=(32, 48)),
        sites=("middle",),
        concepts={"named": ["part"], "positions": True, "only": ["part: w*", "part: crown", "place: *"]},
        kinds=("tuned", "ssb", "usb", "truth"),
        epochs=1,
        batch_size=4,
    )


STUDIES: dict[str, Callable[[], Study[Any]]] = {
    f.__name__: f
    for f in (curve, curve_early, trained, readout, pattern, red_green, location, compare, joint, bottleneck)
}
RUNS: dict[str, Callable[[Path], Any]] = {
    name: lambda out, make=make: make().run(out, quiet=True) for name, make in STUDIES.items()
}

# Processors with units for bfloat16 add in another order; oneDNN reads once, at its first use, what it may use.
WITHOUT_UNITS = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OMP_NUM_THREADS": "1"}


def run_without_units(name: str, out: Path) -> None:
    """Run one protocol in a process of its own, with the bfloat16 numbers of a processor that has no units for it."""
    code = f"import golden_runs, pathlib; golden_runs.RUNS[{name!r}](pathlib.Path({str(out)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, env=os.environ | WITHOUT_UNITS)


def cost() -> dict[str, Any]:
    """What each method costs; latency is of this machine, and left out."""
    study = ww.use.Cost("cifar/resnet20", "digits", methods=("se", "ms_sar"), width=0.5, batch=2, rounds=1)
    found = study.run(quiet=True).costs
    return {name: {k: v for k, v in c.to_dict().items() if "latency" not in k} for name, c in found.items()}


def write(folder: Path, names: list[str], *, fold: bool = False) -> None:
    """Run, and keep what was asked for and what came out: no weights, no figures."""
    for name in names or RUNS:
        print(name, flush=True)
        if not fold:
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
    if fold:
        return
    (folder / "cost.json").write_text(json.dumps(cost(), indent=1) + "\n")
    machine = {"cpu": hardware()["cpu"], "capability": torch.backends.cpu.get_cpu_capability()}
    (folder / "machine.json").write_text(json.dumps({**machine, "torch": torch.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    os.environ |= WITHOUT_UNITS
    torch.set_num_threads(1)
    given = [a for a in sys.argv[1:] if a != "--fold"]
    write(Path(given[0]), given[1:], fold="--fold" in sys.argv)
