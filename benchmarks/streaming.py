"""Pictures that are larger than memory: what memory they take, how fast they come, and what a curve costs.

    python benchmarks/streaming.py memory --pictures 1000,5000,20000,50000
    python benchmarks/streaming.py speed --data FOLDER --rounds 7       # with train/CLASS/*.JPEG, as stand_in.py makes
    python benchmarks/streaming.py cost --data CIFAR-100 --pictures 1000,2000,5000,10000,20000,50000

memory: a process for each layout and number of pictures, which reads them once as a test does (nothing is kept) and
    once through random views as a training does: its memory when they are loaded, what reading adds, and its peak, with
    what is mapped from files.
speed: random views, and the test's resize and crop, against torch's DataLoader with torchvision's transforms, in turn,
    in one process, with as many threads here as processes there.
cost: processor seconds of `need curve` against pictures, draws and cuts: the exponent, and what one more costs.

Each adds to the file that `--out` names.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import linregress, t
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import whatwhere as ww
from whatwhere.data import Data, Split, ahead, memory
from whatwhere.data.view_batches import view_batches
from whatwhere.data.views import Views
from whatwhere.files import read_json, write_json
from whatwhere.lab.provenance import hardware, versions
from whatwhere.network import Preprocessing

VIEWS = Views((0.08, 1.0), (3 / 4, 4 / 3), flip=True)
SIDE, DISTINCT, CLASSES = 48, 200, 10  # of the generated pictures
CURVE = "files, by a curve"
LAYOUTS = ("files", "shards", "npz", "parquet", CURVE)


def slope(x: Sequence[float], y: Sequence[float]) -> list[float]:
    """The slope of y over x, and the ends of its 95 % interval."""
    found = linregress(x, y)
    half = float(t.ppf(0.975, len(x) - 2)) * found.stderr
    return [float(found.slope), float(found.slope - half), float(found.slope + half)]


# Memory


def encoded() -> list[bytes]:
    rng, made = np.random.default_rng(0), []
    for _ in range(DISTINCT):
        held = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(held, "JPEG", quality=90)
        made.append(held.getvalue())
    return made


def write(layout: str, n: int, folder: Path) -> None:
    pictures = encoded()
    folder.mkdir(parents=True)
    if layout == "files":
        for i in range(n):
            place = folder / "train" / f"n{i % CLASSES:08d}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"n{i % CLASSES:08d}_{i}.JPEG").write_bytes(pictures[i % DISTINCT])
    if layout == "shards":
        for start in range(0, n, 1000):
            with tarfile.open(folder / f"train-{start // 1000:04d}.tar", "w") as tar:
                for i in range(start, min(start + 1000, n)):
                    for ending, content in (("jpg", pictures[i % DISTINCT]), ("cls", str(i % CLASSES).encode())):
                        entry = tarfile.TarInfo(f"{i:08d}.{ending}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    if layout == "npz":
        pixels = np.random.default_rng(0).integers(0, 256, (n, 3 * SIDE**2), dtype=np.uint8)
        np.savez(folder / "train_data_batch_1.npz", data=pixels, labels=np.arange(n) % CLASSES + 1)
    if layout == "parquet":
        import datasets

        features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
        rows = {
            "image": [{"bytes": pictures[i % DISTINCT], "path": None} for i in range(n)],
            "label": [i % CLASSES for i in range(n)],
        }
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train-00000-of-00001.parquet")


def resident(kind: str) -> int:
    """Bytes of this process's memory: VmHWM at its highest, RssAnon now, without what is mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(kind)).split()[1])


def curve(folder: Path) -> dict[str, float]:
    """What a curve over the pictures of a folder takes."""
    memory.MEMORY_CAP = 0
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1),
        torch.nn.Conv2d(8, 8, 3, 2, 1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, CLASSES),
    )
    net = ww.Network(module, Preprocessing(size=(32, 32)), input_size=(3, 32, 32))
    data = Data("pictures", {"test": ww.load_data(folder).splits["train"]})
    started = time.perf_counter()
    ww.need.curve(net, data, methods="per-channel", sites="1", repeats=2, quiet=True)
    return {"peak": resident("VmHWM"), "seconds": time.perf_counter() - started}


def passes(folder: Path) -> dict[str, float]:
    """What two passes over a folder take."""
    memory.MEMORY_CAP = 0
    split = ww.load_data(folder).splits["train"]
    loaded, highest, started = resident("RssAnon"), 0, time.perf_counter()
    geometry = Preprocessing(size=(32, 32))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    for batches in (
        split.batches(128, geometry=geometry),
        view_batches(split, 128, VIEWS, seed=0, geometry=geometry, order=order),
    ):
        for _ in batches:
            highest = max(highest, resident("RssAnon"))
    seconds = time.perf_counter() - started
    return {"loaded": loaded, "reading": highest - loaded, "peak": resident("VmHWM"), "seconds": seconds}


def in_a_process(measure: Callable[[Path], dict[str, float]], folder: Path) -> dict[str, float]:
    """What a copy of this process measures, whose highest memory begins where it starts."""
    context = multiprocessing.get_context("fork")
    given: Any = context.SimpleQueue()
    process = context.Process(target=lambda: given.put(measure(folder)))
    process.start()
    found: dict[str, float] = given.get()
    process.join()
    return found


def measure_memory(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for layout in args.layouts:
        rows = []
        for n in args.pictures:
            with tempfile.TemporaryDirectory() as place:
                write(layout.partition(",")[0], n, Path(place) / "pictures")
                for _ in range(args.rounds):
                    measured = in_a_process(curve if layout == CURVE else passes, Path(place) / "pictures")
                    rows.append({"pictures": n, **measured})
        counts = [row["pictures"] for row in rows]
        kinds = [key for key in ("loaded", "reading", "peak") if key in rows[0]]
        slopes = {key: slope(counts, [row[key] for row in rows]) for key in kinds}
        yield {"layout": layout, "rows": rows, "bytes_a_picture": slopes}


# Speed


def theirs(folder: Path, transform: Any, workers: int, batch: int, shuffle: bool) -> Callable[[int], int]:
    """A pass of torch's own: `ImageFolder`, and torchvision's transforms of each picture in processes."""
    data = ImageFolder(str(folder), transform)

    def run(seed: int) -> int:
        g = torch.Generator().manual_seed(seed)
        loader = DataLoader(data, batch, shuffle=shuffle, num_workers=workers, generator=g)
        return sum(len(images) for images, _ in loader)

    return run


def ours(split: Split, geometry: Preprocessing, batch: int, *, views: bool) -> Callable[[int], int]:
    def run(seed: int) -> int:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        given = (
            view_batches(split, batch, VIEWS, seed=seed, geometry=geometry, order=order)
            if views
            else split.batches(batch, geometry=geometry)
        )
        return sum(len(images) for images, _ in given)

    return run


def measure_speed(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    memory.MEMORY_CAP = 0  # each pass decodes
    split = ww.load_data(args.data).splits[args.split]
    folder = args.data / args.split
    geometry = Preprocessing(size=(224, 224), crop_pct=0.875)
    train = [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    test = [v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()]
    for name, transform, views in (("views", train, True), ("resize and crop", test, False)):
        for workers in args.workers:
            ahead.workers = lambda workers=workers: workers
            runs = (
                ours(split, geometry, 64, views=views),
                theirs(folder, v2.Compose(transform), workers, 64, views),
            )
            rates = [[rate(run, i) for run in runs] for i in range(args.rounds)]
            ratios = [mine / other for mine, other in rates]
            yield {
                "what": name,
                "workers": workers,
                "ours": float(np.median([r[0] for r in rates])),
                "dataloader": float(np.median([r[1] for r in rates])),
                "ratio": [float(np.median(ratios)), *bootstrap(ratios)],
                "rounds": rates,
            }


def rate(run: Callable[[int], int], seed: int) -> float:
    """Pictures a second."""
    started = time.perf_counter()
    return run(seed) / (time.perf_counter() - started)


def bootstrap(values: Sequence[float]) -> list[float]:
    """A 95 % interval of the median."""
    drawn = np.random.default_rng(0).choice(np.array(values), (10_000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return [float(low), float(high)]


# The cost of a curve


def measure_cost(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    net = ww.load_model("cifar/vgg11", classes=100, width=0.125)
    larger, table = ww.load_data(args.data).train, ww.sites(net)
    base = {"limit": args.pictures[len(args.pictures) // 2], "repeats": 2, "sites": [table.cuts[4]]}
    grids: dict[str, list[tuple[dict[str, Any], int]]] = {
        "pictures": [({"limit": n}, n) for n in args.pictures],
        "draws": [({"repeats": r}, r) for r in (1, 2, 4, 8, 16)],
        "cuts": [({"sites": list(table.cuts[step // 2 :: step])}, 8 // step) for step in (8, 4, 2, 1)],
    }
    every = []
    for name, settings in grids.items():
        rows = []
        for options, x in settings:
            asked = {**base, **options}
            share = sum(1 - cut.flops_before / table.total_flops for cut in asked["sites"])
            plain = asked["limit"] * (1 + asked["repeats"] * share)
            for _ in range(args.rounds):
                fresh = Split(larger.name, larger.source, larger.labels, larger.classes)  # nothing decoded is kept
                rows.append((float(x), plain, curve_seconds(net, Data("pictures", {"test": fresh}), asked)))
        every += rows
        yield {"against": name, "rows": rows, **fitted([r[0] for r in rows], [r[2] for r in rows])}
    passes, seconds = ([row[i] for row in every] for i in (1, 2))
    yield {"against": "operations, in plain passes of a picture", **fitted(passes, seconds)}


def curve_seconds(net: ww.Network, pictures: Data, asked: dict[str, Any]) -> float:
    """Processor seconds of a curve."""
    options = {**asked, "sites": tuple(cut.name for cut in asked["sites"])}
    started = time.process_time()
    ww.need.curve(net, pictures, methods="per-channel", within=None, quiet=True, **options)
    return time.process_time() - started


def fitted(x: Sequence[float], y: Sequence[float]) -> dict[str, list[float]]:
    """What one more costs, and the exponent of y over x."""
    return {"seconds_for_one_more": slope(x, y), "exponent": slope(np.log(x).tolist(), np.log(y).tolist())}


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def layouts(text: str) -> list[str]:
    if unknown := set(asked := text.split(";")) - {*LAYOUTS}:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: give some of {'; '.join(LAYOUTS)}")
    return asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "speed", "cost"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pictures", type=numbers, default=[1000, 5000, 20_000])
    parser.add_argument("--layouts", type=layouts, default=LAYOUTS, help=f"separated by ;, of {'; '.join(LAYOUTS)}")
    parser.add_argument("--workers", type=numbers, default=[1, 2])
    parser.add_argument("--split", default="train", help="whose speed is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/streaming.json"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    measured = {"memory": measure_memory, "speed": measure_speed, "cost": measure_cost}[args.what]
    rows = []
    for row in measured(args):
        rows.append(row)
        print(json.dumps({k: v for k, v in row.items() if k not in ("rows", "rounds")}), flush=True)
        known = read_json(args.out) if args.out.exists() else {}
        write_json(args.out, {**known, args.what: rows, "hardware": hardware(), "versions": versions()})


if __name__ == "__main__":
    main()
