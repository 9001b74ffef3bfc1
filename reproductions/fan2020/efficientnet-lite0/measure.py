"""A recovered network as a product: opened in a fresh process, exported, run elsewhere, measured beside the original.

    python measure.py RECOVERED-FOLDER WEIGHTS PICTURES OUT.json [--repeats 15]

Accuracy of each file on the test pictures; then seconds of the original and the collapsed network in turn, in one
process, with one thread, as PyTorch modules and in onnxruntime: the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

import whatwhere as ww

BATCHES = (1, 32)
MODEL = "timm/tf_efficientnet_lite0"
Run = Callable[[Tensor], Tensor]


def command(*words: str) -> str:
    """What a command of whatwhere prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "whatwhere", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[0]


def in_onnxruntime(file: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options)
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.contiguous().numpy()})[0])


def hits(run: Run, net: ww.Network, data: Any) -> Tensor:
    found = []
    for images, labels in data.test.batches(25, geometry=net.preprocessing):
        with torch.no_grad():
            found.append(run(net.prepared(images)).argmax(1) == labels)
    return torch.cat(found)


def interleaved(a: Run, b: Run, x: Tensor, repeats: int) -> dict[str, Any]:
    def seconds(run: Run) -> float:
        started = time.perf_counter()
        run(x)
        return time.perf_counter() - started

    with torch.no_grad():
        a(x), b(x)
        pairs = [(seconds(a), seconds(b)) for _ in range(repeats)]
    ratios = sorted(after / before for before, after in pairs)
    first, second = (1000 * statistics.median(each) for each in zip(*pairs, strict=True))
    return {
        "original_ms": round(first, 2),
        "collapsed_ms": round(second, 2),
        "ratio": round(statistics.median(ratios), 3),
        "range": [round(ratios[0], 3), round(ratios[-1], 3)],
        "repeats": repeats,
    }


Runs = dict[str, Run]


def measured(name: str, net: ww.Network, words: list[str], kept: Path, pictures: str) -> tuple[dict[str, Any], Runs]:
    """What a network is as files, and what they answer; and what runs each of them."""
    net.module.to(memory_format=torch.channels_last)  # as fine-tuning left the collapsed one: both are timed alike
    cost, data = ww.cost(net, seconds=0), ww.load_data(pictures)
    files = {suffix: kept / f"{name}.{suffix}" for suffix in ("onnx", "pt2")}
    said = [command("evaluate", *words, "--data", pictures)]
    for suffix, form in (("onnx", "onnx"), ("pt2", "torch-export")):
        out = ("--out", str(files[suffix]), "--format", form, "--overwrite", "true")
        said.append(command("export", *words, *out))
    program = torch.export.load(files["pt2"]).module()
    runs = {"torch": net.module.eval(), "onnxruntime": in_onnxruntime(files["onnx"]), "torch.export": program}
    found = {how: hits(run, net, data) for how, run in runs.items()}
    return {
        "parameters": cost.parameters,
        "flops": cost.flops,
        "bytes": {suffix: file.stat().st_size for suffix, file in files.items()},
        "right": {how: int(h.sum()) for how, h in found.items()},
        "other_answers": {how: int((h != found["torch"]).sum()) for how, h in found.items()},
        "said": said,
    }, runs


def timed(original: Runs, collapsed: Runs, repeats: int) -> dict[str, Any]:
    """Seconds of both networks in turn, under each program and with each number of pictures."""
    found = {}
    for how in ("torch", "onnxruntime"):
        for batch in BATCHES:
            x = torch.randn(batch, 3, 224, 224).to(memory_format=torch.channels_last)
            found[f"{how}, batch {batch}"] = interleaved(original[how], collapsed[how], x, repeats)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("pictures")
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    own = ["--model", MODEL, "--weights", str(args.weights), "--classes", "1000"]
    given = {
        "original": (ww.load_model(MODEL, weights=args.weights, classes=1000), own, args.weights),
        "collapsed": (
            ww.load_model(str(args.folder)),
            ["--model", str(args.folder)],
            args.folder / "weights.safetensors",
        ),
    }
    networks, runs = dict[str, Any](), dict[str, Runs]()
    for name, (net, words, file) in given.items():
        networks[name], runs[name] = measured(name, net, words, args.folder.parent, args.pictures)
        networks[name]["bytes"]["safetensors"] = file.stat().st_size
    report = {
        "pictures": len(ww.load_data(args.pictures).test),
        "threads": 1,
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "networks": networks,
        "seconds": timed(runs["original"], runs["collapsed"], args.repeats),
    }
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
