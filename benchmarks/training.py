"""Training images a second, against the loop that is usual for CIFAR and against the device's own convolutions.

    python benchmarks/training.py                     # 2 cores: about 10 minutes
    python benchmarks/training.py --threads 1 --workers 0 --clock cpu    # beside other work: processor time of one core
    python benchmarks/training.py --device cuda --steps 300 --options plain,compiled

The usual loop is PyTorch's: a DataLoader with torchvision's transforms of each picture (crop, flip, to tensor,
normalise), maps in the default layout, the loss read at every step. Ours is `ww.fit` with the recipe `fast`. The floor
is the time of the step's convolutions and linear layers alone, forward and backward, on the same shapes and in the same
precision: nothing that runs them one after the other is faster. All run in one process, in turns; reported are medians
of ratios paired by round, with 95 % by bootstrap over rounds. Pictures are random bytes of CIFAR's shape: their content
costs nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import whatwhere as ww
from whatwhere.data import Split
from whatwhere.data.sources import Memory
from whatwhere.files import write_json
from whatwhere.lab.provenance import hardware, versions

NETWORKS = {"ResNet-20": ("cifar/resnet20", 1.0), "VGG-16, half width": ("cifar/vgg16", 0.5)}
BATCH, CLASSES = 128, 100
MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fused": {"fused": True},
    "compiled": {"compile": True, "fused": True},
    "bf16": {"precision": "bf16-mixed", "fused": True},
    "compiled bf16": {"precision": "bf16-mixed", "compile": True, "fused": True},
}
LAYERS = (nn.Conv2d, nn.Linear)


class Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR-100: bytes in memory, a PIL picture for each, transformed one by one."""

    def __init__(self, images: np.ndarray[Any, Any], labels: list[int]) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def usual_loop(net: nn.Module, loader: DataLoader[Any], device: str) -> Callable[[], None]:
    """An epoch as tutorials write it."""
    net.to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)

    def epoch() -> None:
        running, right = 0.0, 0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            scores = net(images)
            loss = nn.functional.cross_entropy(scores, labels)
            loss.backward()
            optimizer.step()
            running += loss.item()
            right += int((scores.argmax(1) == labels).sum())

    return epoch


def our_loop(net: ww.Network, split: Split, device: str, **options: Any) -> Callable[[], None]:
    recipe = replace(ww.recipes["fast"], epochs=1, batch_size=BATCH, lr=0.01, **options)
    return lambda: ww.fit(net, split, recipe, device=device) and None


def layers_alone(net: nn.Module, device: str, precision: str) -> tuple[Callable[[], None], float]:
    """One step's convolutions and linear layers, forward and backward, channels last; and their operations."""
    mixed = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16-mixed")
    net = net.to(device, memory_format=torch.channels_last).train()
    seen: list[tuple[nn.Module, Tensor]] = []
    handles = [
        m.register_forward_pre_hook(lambda m, given: seen.append((m, given[0].detach())))
        for m in net.modules()
        if isinstance(m, LAYERS)
    ]
    with torch.no_grad(), mixed:
        net(torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last))
    for handle in handles:
        handle.remove()
    flops, parts = 0.0, []
    for i, (m, x) in enumerate(seen):
        x.requires_grad_(i > 0)  # of pictures no gradient is asked for
        with mixed:
            out = m(x)
        flops += (2 if i == 0 else 3) * 2 * m.weight.numel() * out.numel() / out.shape[1]  # type: ignore[union-attr,operator]
        parts.append((m, x, torch.randn_like(out), [m.weight, *([x] if i else [])]))

    def step() -> None:
        for m, x, gradient, wanted in parts:
            with mixed:
                out = m(x)
            torch.autograd.grad(out, wanted, gradient)

    return step, flops


def floors_of(
    fresh: Callable[[], ww.Network], precisions: list[str], args: argparse.Namespace
) -> tuple[dict[str, Callable[[], None]], float]:
    """A round of the layers alone in each precision, and the operations of a step."""

    def rounds(step: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(args.steps):
                step()

        return run

    made = {precision: layers_alone(fresh().module, args.device, precision) for precision in precisions}
    floors = {f"layers alone, {precision}": rounds(step) for precision, (step, _) in made.items()}
    return floors, max(flops for _, flops in made.values())


def seconds(run: Callable[[], None], args: argparse.Namespace) -> float:
    """Seconds that a run takes, the work it leaves on a GPU included."""
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    wait = torch.cuda.synchronize if args.device.startswith("cuda") else lambda: None
    wait()
    started = clock()
    run()
    wait()
    return clock() - started


def ratio(of: np.ndarray[Any, Any], to: np.ndarray[Any, Any]) -> list[float]:
    """Median of ratios paired by round, and its 95 % interval by bootstrap over rounds."""
    each = of / to
    picks = np.random.default_rng(0).integers(len(each), size=(2000, len(each)))
    return [float(np.median(each)), *map(float, np.quantile(np.median(each[picks], 1), (0.025, 0.975)))]


def compared(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All loops of one network, in turns."""
    model, width = NETWORKS[name]

    def fresh() -> ww.Network:
        return ww.load_model(model, classes=CLASSES, width=width)

    n = args.steps * BATCH
    images = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    labels = [i % CLASSES for i in range(n)]
    loader = DataLoader(
        Pictures(images, labels),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        pin_memory=args.device.startswith("cuda"),
    )
    pixels = Memory(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    split = Split("train", pixels, torch.tensor(labels), [str(c) for c in range(CLASSES)])
    runs = {"usual": usual_loop(fresh().module, loader, args.device)}
    runs |= {option: our_loop(fresh(), split, args.device, **OPTIONS[option]) for option in args.options}
    precisions = {option: OPTIONS.get(option, {}).get("precision", "32-true") for option in runs}
    floors, flops = floors_of(fresh, sorted(set(precisions.values())), args)
    runs |= floors
    for run in runs.values():
        run()  # the first is slow
    took = np.array([[seconds(run, args) for run in runs.values()] for _ in range(args.rounds)]).T
    each = dict(zip(runs, took, strict=True))
    return {
        option: {
            "images a second": n / float(np.median(each[option])),
            "times the usual loop": ratio(each["usual"], each[option]),
            "share of the layers' own rate": ratio(each[f"layers alone, {precisions[option]}"], each[option]),
        }
        for option in ("usual", *args.options)
    } | {f"rate of the {floor}, GFLOP/s": flops * args.steps / 1e9 / float(np.median(each[floor])) for floor in floors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--networks", type=lambda s: s.split(";"), default=list(NETWORKS), help="separated by ;")
    parser.add_argument("--options", type=lambda s: s.split(","), default=["plain", "fused"], help=", ".join(OPTIONS))
    parser.add_argument("--steps", type=int, default=4, help="in a round")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2, help="of the usual loop's DataLoader")
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores if not given")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: of this process alone")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training.json"))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    result = {
        "device": torch.cuda.get_device_name() if args.device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "loader workers": args.workers,
        "clock": args.clock,
        "batch": BATCH,
        "steps a round": args.steps,
        "rounds": args.rounds,
        "networks": {name: compared(name, args) for name in args.networks},
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=1))
    write_json(args.out, result)


if __name__ == "__main__":
    main()
