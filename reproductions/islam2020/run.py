"""Read position out of one network of this reproduction; run again to go on.

    python reproductions/islam2020/run.py vgg16 --weights W.safetensors --data IMAGENET-500 --test PHOTOS

Networks: `vgg16` (quarter width, CIFAR-100, of reproductions/fan2020), `squeezenet` (torchvision's squeezenet1_1,
ImageNet), `vgg11-trunk` (torchvision's vgg11_bn up to its fourth convolution, ImageNet), and `twin-PADDING` (trained by
train.py). Fitted on ImageNet photographs, tested on the photographs of another set, as the paper does.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import train
from torch import nn

import whatwhere as ww
from whatwhere.hold import Official
from whatwhere.models.weights import load_weights

HERE = Path(__file__).parent / "at-224"  # maps are compared at the size of the pictures
TWIN_SIZE = 128  # larger than in training, so that without padding the last maps are maps

VGG: dict[str, Any] = {"input_size": 224, "untrained": 2}
DEEPER: dict[str, Any] = {
    "readouts": "official",
    "targets": ["H", "G", "HS"],
    "paddings": [],
    "blanks": [],
    "untrained": 1,
}
CONTROLS: dict[str, dict[str, Any]] = {
    "vgg16": {**VGG, "kernels": [3, 1]},
    "vgg16-kernel7": {**VGG, "kernels": 7, "readouts": "official", "paddings": []},
    "vgg16-paddings": {
        **VGG,
        "readouts": "ridge",
        "untrained": 0,
        "paddings": ["circular", "reflect", "replicate"],
        "blanks": [],
    },
    "vgg16-layers2": {**VGG, **DEEPER, "official": Official(layers=2)},
    "vgg16-layers3": {**VGG, **DEEPER, "official": Official(layers=3)},
    "squeezenet": {"kernels": 1, "untrained": 2, "paddings": ["circular"]},
    "vgg11-trunk": {"untrained": 1, "paddings": ["circular"]},
}
# The raw input alone, the read-out with zeros around it: what padding gives by itself. "raw" leaves out normalisation,
# as the authors' code does: a zero is then black, not the mean colour.
RGB: dict[str, Any] = {"sites": "rgb", "input_size": 224, "untrained": 0, "paddings": []}
CONTROLS |= {f"rgb-pad{p}{raw}": {**RGB, "readout_padding": p} for p in (0, 1, 2) for raw in ("", "-raw")}
TWIN: dict[str, Any] = {
    "input_size": TWIN_SIZE,
    "untrained": 2,
    "paddings": [],
    "sites": ["features.2", "features.6", "features.13", "features.20"],  # the levels of the twin with zeros
}
BOTH = ["ridge", "official"]


def network(name: str, weights: Path) -> ww.Network:
    if name.startswith(("vgg16", "rgb")):
        net = ww.load_model("cifar/vgg16", classes=100, width=0.25, weights=weights)
        if name.endswith("-raw"):
            net = replace(net, preprocessing=replace(net.preprocessing, mean=(0.0,), std=(1.0,)))
        return replace(net, name="VGG-16 (quarter width, CIFAR-100)")
    if name.startswith("squeezenet"):
        return replace(ww.load_model("torchvision/squeezenet1_1", weights=weights), name="SqueezeNet 1.1 (ImageNet)")
    if name == "vgg11-trunk":
        whole = ww.load_model("torchvision/vgg11_bn")
        trunk = nn.Sequential()
        trunk.add_module("features", whole.module.features[:14])
        load_weights(trunk, weights, strict=False)
        return replace(whole, module=trunk.eval(), name="VGG-11 trunk (4 convolutions, ImageNet)")
    return train.twin(name.removeprefix("twin-"), weights=weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True, help="pictures to fit")
    parser.add_argument("--test", required=True, help="pictures to test")
    args = parser.parse_args()
    net = network(args.network, args.weights)
    net.module.eval()
    options = {"readouts": BOTH, **CONTROLS.get(args.network, TWIN)}
    held = ww.hold.readout(net, args.data, test_data=args.test, out=HERE / args.network, **options)
    print(held.conclusion)


if __name__ == "__main__":
    main()
