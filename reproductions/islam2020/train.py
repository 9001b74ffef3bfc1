"""Train the twins: the same network on CIFAR-100 at 64 px, from scratch, with one padding or another.

    python reproductions/islam2020/train.py --data PATH-TO-CIFAR-100 --padding none --seed 0

VGG-11 at quarter width without its last stage (six convolutions, so that maps survive without padding at 64 px),
global average pooling, one linear layer. Run again to go on after an interruption.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import whatwhere as ww
from whatwhere.files import write_json
from whatwhere.hold.padding import with_padding
from whatwhere.lab.progress import Meter
from whatwhere.lab.provenance import hardware, versions
from whatwhere.models.weights import load_weights, save_weights

SIZE, EPOCHS, WIDTH = 64, 5, 0.25


def twin(padding: str, seed: int = 0, weights: Path | None = None) -> ww.Network:
    """The network, freshly initialised (or with weights from a file), padding in one way."""
    net = ww.load_model("cifar/vgg11", classes=100, width=WIDTH, seed=seed)
    trunk = nn.Sequential(*list(net.module.features)[:-8])  # without the pool and the last stage, and the pool after it
    channels = next(m.out_channels for m in reversed(list(trunk)) if isinstance(m, nn.Conv2d))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential()
        module.add_module("features", trunk)
        module.add_module("pool", nn.AdaptiveAvgPool2d(1))
        module.add_module("flatten", nn.Flatten())
        module.add_module("fc", nn.Linear(channels, 100))
    preprocessing = replace(net.preprocessing, size=(SIZE, SIZE), crop_pct=1.0)
    whole = ww.Network(module, preprocessing, f"VGG-11, 6 convolutions, padding {padding}", (3, SIZE, SIZE))
    changed = whole if padding == "zeros" else with_padding(whole, padding)
    if weights:
        load_weights(changed.module, weights)
    return replace(changed, name=whole.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--padding", default="zeros")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/islam2020"), help="folder for weights, checkpoints")
    args = parser.parse_args()
    net, data = twin(args.padding, args.seed), ww.load_data(args.data)
    recipe = replace(ww.recipes["fast"], epochs=EPOCHS, precision="bf16-mixed")
    name = f"{args.padding}-{args.seed}"
    with Meter(f"training, padding {args.padding}", EPOCHS * (len(data.train) // recipe.batch_size)) as meter:
        history = ww.fit(
            net,
            data.train,
            recipe,
            seed=args.seed,
            file=args.out / f"{name}.pt",
            on_step=lambda done, total: meter.update(done),
        )
    save_weights(net.module, args.out / f"{name}.safetensors")
    tested = ww.evaluate(net, data)
    write_json(
        Path(__file__).parent / "twins" / f"{name}.json",
        {
            "padding": args.padding,
            "seed": args.seed,
            "recipe": recipe.to_dict(),
            "epochs": history.epochs,
            "accuracy": tested.accuracy,
            "interval": tested.interval,
            "n": tested.n,
            "data": data.describe(),
            "hardware": hardware(),
            "versions": versions(),
        },
    )
    print(f"{net.name}: {tested}")


if __name__ == "__main__":
    main()
