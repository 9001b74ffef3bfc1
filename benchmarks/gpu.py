"""The run-book: everything that needs a GPU, the most telling first, in stretches of some minutes.

    python benchmarks/gpu.py --data cifar100=DIR --data camvid=DIR --minutes 25     # goes on where it stopped
    python benchmarks/gpu.py --dry --device cpu                                    # each entry at toy size
    python benchmarks/gpu.py pieces DIR PARTS                                      # data in pieces of 50 MiB ...
    python benchmarks/gpu.py join PARTS DIR                                        # ... and whole again

Small networks keep a GPU waiting for their next operation, so that several are trained side by side (`--workers`), and
entries of one network at a time beside the others; with NVIDIA's service for that (`--mps`) eight took 1.65 ms a step
in all instead of 2.75.

It prints the device's rate of convolutions and what each entry will take, and runs commands until the time is over;
every finished cell is on disk at once. At the end it writes the tables (claims.md) and, to be
carried away, results.tar: cells, tables and figures, without weights.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import whatwhere as ww
from run_book import CAMVID, CIFAR, PICTURES, Entry, Step, Trainings, book
from steps import SERVICE, Runner, State, fold_all, run_all, served
from whatwhere.audits.doctor import convolution_rate
from whatwhere.files import read_json, write_bytes, write_json
from whatwhere.lab.provenance import hardware, versions
from whatwhere.need.studies.reference import reference_curve

PIECE = 50 * 2**20  # bytes
LISTED = ".pieces.json"  # ends the name of the list of the pieces of one folder
WORKERS = min(14, os.cpu_count() or 1)  # a VGG-16 alone keeps an H200 busy for about a fifth of the time
USED = 0.25  # share of the rate of convolutions that trainings are expected to reach; 18 VGG-16 on an H200: .24
KEPT = ("study.json", "result.json", "table.csv", "curve.png", "state.json", "claims.md")
KEPT_FOLDER, KEPT_FILES = "cells", "speed-*.json"
DOWNLOADED = {CIFAR: "hf/uoft-cs/cifar100"}  # what is taken where no folder is given


def flops(trains: Trainings) -> float:
    """Of a training: three times a forward pass, for every picture and epoch."""
    name = trains.model
    net = ww.load_model(name, classes=11 if name.startswith("pspnet/") else 100)
    once = ww.sites(net, input_size=(3, trains.side, trains.side)).total_flops
    pictures = PICTURES[CAMVID if name.startswith("pspnet/") else CIFAR]
    return 3.0 * once * pictures * trains.epochs * trains.networks


def minutes(steps: Sequence[Step], per_second: float) -> float | None:
    """An estimate of the trainings among steps; None where nothing is trained."""
    work = [flops(step.trains) for step in steps if step.trains]
    return sum(work) / (USED * per_second) / 60 if work else None


def plan(entries: Sequence[Entry], state: State, per_second: float | None) -> Iterator[str]:
    """A line for each entry: what it will take, or that it is finished."""
    for entry in entries:
        left = state.left(entry)
        spent = state.seconds.get(entry.name)
        about = minutes(left, per_second) if left and per_second else None
        takes = f"about {about:.0f} minutes of training" if about is not None else "minutes"
        so_far = f", {spent / 60:.1f} minutes so far" if spent else ""
        yield f"  {entry.name}: {f'{takes} to go' if left else 'finished'}{so_far}. {entry.title}."


def claims(entries: Sequence[Entry], state: State) -> str:
    """What was found so far, entry by entry, with the paper's numbers where there are some."""
    said = ["# What the run-book found", "", f"Device: {json.dumps(state.device)}", ""]
    for entry in entries:
        left = len(state.left(entry))
        how_far = f"{left} of {len(entry.steps)} steps left." if left else "Finished."
        said += [f"## {entry.name}", "", f"{entry.title}. {how_far}", ""]
        for folder in dict.fromkeys(step.options["out"].format(out=state.folder, device="") for step in entry.steps):
            said += [*_found(Path(folder)), ""]
    return "\n".join(said)


def _found(folder: Path) -> list[str]:
    if folder.suffix == ".json" and folder.exists():
        return [f"`{folder.name}`", "", "```json", folder.read_text().strip(), "```"]
    if (folder / "history.json").exists():
        epochs = read_json(folder / "history.json")["epochs"]
        return [f"`{folder.name}`: trained for {len(epochs)} epochs; the last one: {json.dumps(epochs[-1])}"]
    if not (folder / "result.json").exists():
        return [f"`{folder.name}`: nothing finished."]
    result = ww.load_result(folder)
    rows = [{**row, **_published(folder.name, row)} for row in result.table()]
    conclusion = str(getattr(result, "conclusion", ""))
    return [f"`{folder.name}`", "", *([conclusion, ""] if conclusion else []), *_markdown(rows)]


def _published(folder: str, row: Mapping[str, Any]) -> dict[str, str]:
    """The paper's accuracy at the same share: VGG-16, GAP+FC, single runs read off its figures."""
    if folder != "vgg16":
        return {}
    paper = dict(zip(reference_curve().x, reference_curve().y, strict=True))
    own = row["method"] in ("GAP+FC", "intact")
    return {"Fan et al. 2020": f"{paper[float(row['share %'])]:.2f}" if own and float(row["share %"]) in paper else ""}


def _markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[str(row.get(name, "")).replace("|", "/") for name in names] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *lines)]


def packed(folder: Path) -> Path:
    """results.tar: cells, tables and figures of all entries, without weights and pages."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and (f.name in KEPT or f.parent.name == KEPT_FOLDER)]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for file in [*files, *sorted(folder.glob(KEPT_FILES))]:
            archive.add(file, file.relative_to(folder))
    write_bytes(folder / "results.tar", content.getvalue())
    return folder / "results.tar"


def pieces(source: Path, target: Path, size: int = PIECE) -> list[Path]:
    """Write a folder, or a file, as numbered pieces of at most some bytes, and a list of them (NAME.pieces.json).

    Args:
        source: what is carried.
        target: folder of the pieces.
        size: of a piece.
    """
    source = source.resolve()
    target.mkdir(parents=True, exist_ok=True)
    made: dict[str, str] = {}
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w") as archive:
            archive.add(source, source.name)
        whole.seek(0)
        while part := whole.read(size):
            name = f"{source.name}.{len(made):03d}"
            write_bytes(target / name, part)
            made[name] = hashlib.sha256(part).hexdigest()
    write_json(target / f"{source.name}{LISTED}", made)
    return [target / name for name in made]


def join(source: Path, target: Path) -> None:
    """Pieces of a folder, whole again; nothing is written unless all are there as they were made.

    Args:
        source: folder of the pieces; several sets may lie there.
        target: folder that gets what was carried.

    Raises:
        SystemExit: if there is no list of pieces, or one is missing or damaged.
    """
    lists = sorted(source.glob(f"*{LISTED}"))
    if not lists:
        raise SystemExit(f"{source}: no list of pieces (*{LISTED}) is there; carry it along with them.")
    for listed in lists:
        with tempfile.TemporaryFile() as whole:
            for name, digest in read_json(listed).items():
                whole.write(_piece(source / name, digest))
            whole.seek(0)
            with tarfile.open(fileobj=whole) as archive:
                archive.extractall(target, filter="data")


def _piece(file: Path, digest: str) -> bytes:
    if not file.is_file():
        raise SystemExit(f"{file}: this piece is missing; carry it again.")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise SystemExit(f"{file}: this piece is not as it was made; carry it again.")
    return content


def toy_data(folder: Path) -> dict[str, str]:
    """Class folders, and scenes, with a few random pictures, for the dry run."""
    draws = np.random.default_rng(0)
    for split, n in (("train", 12), ("validation", 4), ("test", 6)):
        for i in range(n):
            picture = draws.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            _write(folder / CIFAR / split / "ab"[i % 2] / f"{i}.png", picture)
            _write(folder / CAMVID / split / "images" / f"{i}.png", picture)
            _write(folder / CAMVID / split / "labels" / f"{i}.png", (picture[..., 0] // 100).astype(np.uint8))
    write_json(folder / CAMVID / "classes.json", {"classes": ["a", "b", "c"]})
    write_json(folder / CAMVID / "concepts.json", {"colours": True})
    return {name: str(folder / name) for name in (CIFAR, CAMVID)}


def _write(file: Path, picture: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)


def measured(device: str, dry: bool) -> dict[str, Any]:
    """The machine, and its rates of convolutions in TFLOP/s."""
    kinds = (
        {"float32": torch.float32}
        if dry or not device.startswith("cuda")
        else {"float32": torch.float32, "bfloat16": torch.bfloat16}
    )
    rates = {name: round(convolution_rate(device, kind, 0.1 if dry else 1.0) / 1e12, 2) for name, kind in kinds.items()}
    return {**hardware(), "tflops": rates, "versions": versions()}


def main() -> None:
    words = sys.argv[1:]
    if words[:1] in (["pieces"], ["join"]):
        if len(words) != 3:
            raise SystemExit(f"{words[0]}: give FROM and TO, two folders.")
        verb = {"pieces": pieces, "join": join}[words[0]]
        verb(*map(Path, words[1:]))  # type: ignore[operator]
        return
    args = _arguments(words)
    out = (args.out or Path("runs/gpu-dry" if args.dry else "runs/gpu")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    state = State.of(out, dry=args.dry)
    given = toy_data(out / "toy") if args.dry else DOWNLOADED | dict(args.data)
    entries = [e for e in book() if not args.only or e.name in args.only]
    there = [e for e in entries if not e.data or e.data in given]
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    state.device = measured(device, args.dry)
    rates = state.device["tflops"]
    print(f"{device}: convolutions at {rates} TFLOP/s; {args.minutes:g} minutes.", flush=True)
    print("\n".join(plan(there, state, None if args.dry else 1e12 * max(rates.values()))), flush=True)
    for entry in entries:
        if entry not in there:
            print(f"  {entry.name}: left out, give --data {entry.data}=FOLDER.")
    until = time.monotonic() + 60 * args.minutes
    runner = Runner(state, {**given, "out": str(out), "device": device}, device, args.workers, args.dry, until)
    if not args.dry:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that nothing goes on behind it
    ended = 0
    try:
        with served(args.mps):
            run_all(runner, there)
    except KeyboardInterrupt:
        ended = 130
    fold_all(runner, there)
    write_bytes(out / "claims.md", claims(entries, state).encode())
    state.keep()
    print(f"open {out / 'claims.md'}; carry away {packed(out)}")
    if ended:
        raise SystemExit(ended)


def _named(pair: str) -> tuple[str, str]:
    """A folder of data that the book asks for."""
    name, is_pair, folder = pair.partition("=")
    if name not in (CIFAR, CAMVID) or not is_pair:
        raise argparse.ArgumentTypeError(f"{pair!r}: give {CIFAR}=FOLDER or {CAMVID}=FOLDER")
    return name, folder


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0, help="that it may take")
    parser.add_argument("--out", type=Path, help="folder of the results, goes on there; runs/gpu, or runs/gpu-dry")
    parser.add_argument("--data", action="append", type=_named, default=[], metavar="NAME=PATH", help="cifar100=DIR")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes side by side on the device")
    parser.add_argument("--mps", action="store_true", help=f"start {SERVICE}, and end it afterwards")
    parser.add_argument("--only", nargs="*", choices=[e.name for e in book()], help="these entries alone")
    parser.add_argument("--dry", action="store_true", help="each entry at toy size, in this process")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
