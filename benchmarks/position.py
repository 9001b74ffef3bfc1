"""The read-out at the product's defaults: time and memory with all controls, before and after, and against columns.

    python benchmarks/position.py --data PHOTOS --weights SQUEEZENET.safetensors
    python benchmarks/position.py --data PHOTOS --weights SQUEEZENET.safetensors --parts columns

* product: `whatwhere hold readout` with its defaults on SqueezeNet 1.1, network by network, each way in a process of
  its own. *Before* is the closed form for every read-out (products of all columns, eigenvectors), *after* Krylov
  spaces for those of many columns. The scores of the two are compared, row by row;
* columns: both ways of solving on the same features, of growing numbers of channels, in turn, in one process.

Cores may be shared, so seconds of the processor stand beside those of the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy.stats import linregress
from scipy.stats import t as student
from torch import Tensor

import whatwhere as ww
from whatwhere.files import write_json
from whatwhere.hold.features import Group, Reader, Tap
from whatwhere.hold.kept import Kept
from whatwhere.hold.krylov import Goals, krylov_readout
from whatwhere.hold.ridge import RidgeFit
from whatwhere.hold.studies import readout_worker, solving
from whatwhere.hold.studies.measure import measure
from whatwhere.hold.studies.pictures import prepared
from whatwhere.hold.studies.readout_plan import ReadoutPlan
from whatwhere.hold.targets import resized, stack, targets_of
from whatwhere.lab.provenance import hardware, versions
from whatwhere.site import evaluating

MODEL, SITE = "torchvision/squeezenet1_1", "features"  # 512 channels of 13 x 13
SIZE, KERNEL = 28, 3
WAYS = ("before", "after")


def clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def timed(f: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    cpu, wall = clocks()
    value = f()
    return value, {"processor": time.process_time() - cpu, "clock": time.perf_counter() - wall}


def peak() -> float:
    """MiB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def run_one_way(args: argparse.Namespace) -> dict[str, Any]:
    """The study, with the seconds of each network."""
    if args.way == "before":
        solving.KEPT = 0  # no features are kept: every read-out is solved in closed form
    seconds: dict[str, Any] = {}

    def measured(*given: Any, **options: Any) -> Any:
        found, seconds[str(len(seconds))] = timed(lambda: measure(*given, **options))
        seconds[str(len(seconds) - 1)]["MiB so far"] = peak()
        return found

    net = ww.load_model(MODEL, weights=args.weights)
    options = {"untrained": args.untrained, "paddings": args.paddings}
    options = {name: value for name, value in options.items() if value is not None}
    with patch.object(readout_worker, "measure", measured):
        held, whole = timed(lambda: ww.hold.readout(net, args.data, quiet=True, **options))
    rows = {f"{r.network}, {r.site}, {r.target}, {r.inputs}": (r.spc.mean, r.mae.mean) for r in held.rows}
    return {"networks": list(seconds.values()), "whole": {**whole, "MiB": peak()}, "rows": rows}


def product(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in args.ways:
            out = Path(folder) / f"{way}.json"
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--way", way, "--out", str(out)], check=True)
            found[way] = json.loads(out.read_text())
    rows = {way: found[way].pop("rows") for way in found}
    if len(rows) == len(WAYS):
        found["differences"] = differences(*(rows[way] for way in WAYS))
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The largest of mean SPC and MAE, by kind of picture."""
    found: dict[str, Any] = {}
    for row, (spc, mae) in after.items():
        if row in before:
            kind = found.setdefault(row.split(", ")[3], {"rows": 0, "SPC": 0.0, "MAE": 0.0})
            kind["rows"] += 1
            kind["SPC"] = max(kind["SPC"], abs(spc - before[row][0]))
            kind["MAE"] = max(kind["MAE"], abs(mae - before[row][1]))
    return found


def features(net: ww.Network, plan: ReadoutPlan) -> tuple[list[Tensor], list[Tensor], Tap]:
    """Of the pictures to fit and of those that are held out, at their own size."""
    reading = plan.reading
    tap = next(t for t in reading.groups(net)[0] if t.name == SITE)
    with evaluating(net.module), Reader(net, [tap], size=SIZE, enlarge=False).reading() as read:
        parts = [
            [read(x)[SITE] for _, x in prepared(split, net.preprocessing, 32)]
            for split in (reading.pictures.fit, reading.pictures.held_out)
        ]
    return parts[0], parts[1], tap


def closed(group: Group, fit: list[Tensor], held_out: list[Tensor]) -> Any:
    ridge = RidgeFit(group, targets_of(("H", "V", "G", "HS", "VS")), kernel=KERNEL, size=SIZE)
    for x in fit:
        ridge.add({SITE: resized(x, SIZE)})
    path = ridge.solve()
    for x in held_out:
        path.add({SITE: resized(x, SIZE)})
    return path.best()


def iterated(group: Group, fit: list[Tensor], held_out: list[Tensor]) -> Any:
    kept = Kept(SIZE)
    for x in fit:
        kept.add({SITE: x})
    seen = Kept(SIZE, shift=kept.shift)
    for x in held_out:
        seen.add({SITE: x})
    y = stack(targets_of(("H", "V", "G", "HS", "VS")), SIZE - KERNEL + 1)
    goals = Goals(*([y.expand(len(x), -1, -1, -1) for x in part] for part in (fit, held_out)))
    return krylov_readout(group, KERNEL, 0, kept, seen, goals)


def columns(args: argparse.Namespace) -> dict[str, Any]:
    net = ww.load_model(MODEL, weights=args.weights)
    fit, held_out, tap = features(net, ReadoutPlan(ww.hold.Readout(net, args.data)))
    found: list[dict[str, Any]] = []
    for _ in range(args.rounds):
        for channels in args.channels:
            some = [[x[:, :channels] for x in part] for part in (fit, held_out)]
            group = Group(SITE, (Tap(SITE, channels, tap.shape),))
            for way, solve in zip(WAYS, (closed, iterated), strict=True):
                if way == "before" and channels > args.most_closed:
                    continue
                readout, seconds = timed(lambda solve=solve, group=group, some=some: solve(group, *some))  # type: ignore[misc]
                found.append({"columns": channels * KERNEL**2, "way": way, **seconds, "loss": readout.loss})
                print(json.dumps(found[-1]), flush=True)
    return {"runs": found, "slopes": {way: slope([r for r in found if r["way"] == way]) for way in WAYS}}


def slope(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of the logarithm of the processor's seconds on that of columns, with a 95 % interval of Student's t."""
    fitted = linregress(np.log([r["columns"] for r in runs]), np.log([r["processor"] for r in runs]))
    half = float(student.ppf(0.975, len(runs) - 2)) * fitted.stderr
    return {"slope": fitted.slope, "low": fitted.slope - half, "high": fitted.slope + half, "runs": len(runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="photographs")
    parser.add_argument("--weights", required=True, help="of torchvision's squeezenet1_1")
    parser.add_argument("--parts", nargs="+", default=["product", "columns"], choices=["product", "columns"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--untrained", type=int, help="instead of the default")
    parser.add_argument("--paddings", nargs="*", help="instead of the default")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--most_closed", type=int, default=512, help="channels that are also solved in closed form")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/position.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.way:
        write_json(args.out, run_one_way(args))
        return
    parts = {"product": product, "columns": columns}
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.parts:
        found[name] = parts[name](args)
        write_json(args.out, {**found, "threads": args.threads, "hardware": hardware(), "versions": versions()})
        print(json.dumps(found[name], indent=1))


if __name__ == "__main__":
    main()
