"""The papers' networks for 32 x 32 pictures, at any width.

VGG-11/16 with batch norm and the 512-4096-4096-classes head of Fan et al. 2020; ResNet-20/32/56 (He et al. 2016, with
projection shortcuts) and ResNet-50/152 with a 3 x 3 stride-1 stem and no max-pool; DenseNet-BC; a BagNet whose
positions see 4 x 4 pixels. `width` scales every hidden layer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.densenet import _DenseBlock, _Transition
from torchvision.models.resnet import BasicBlock, Bottleneck

from whatwhere.errors import InputError
from whatwhere.models.bagnet import BagNet

VGG_PLANS: dict[int, tuple[tuple[int, int], ...]] = {  # (convolutions, channels) of each stage
    11: ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)),
    16: ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
}
StageEnd = Literal["max_pool", "stride"]


def scaled(channels: int, width: float) -> int:
    """Channels of a layer at a width factor, at least 4."""
    return max(4, round(channels * width))


class CifarVGG(nn.Module):
    """VGG with batch norm for small pictures: `features` to a 1 x 1 map, then `classifier`.

    Args:
        depth: 11 or 16.
        classes: number of scores.
        width: factor of all hidden layers, including the two of 4096 in the head.
        channels: of the input.
        stage_end: a stage ends in a 2 x 2 max-pool, or its last convolution has stride 2 instead (as in the authors'
            code if that convolution is shuffled).
    """

    def __init__(
        self, depth: int, *, classes: int, width: float = 1.0, channels: int = 3, stage_end: StageEnd = "max_pool"
    ) -> None:
        super().__init__()
        if depth not in VGG_PLANS:
            raise InputError(f"depth={depth}: the papers' CIFAR VGGs have depth {sorted(VGG_PLANS)}.")
        plan = [(n, scaled(c, width)) for n, c in VGG_PLANS[depth]]
        self.features = nn.Sequential(*_vgg_layers(plan, channels, stage_end))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = _vgg_head(plan[-1][1], scaled(4096, width), classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, classes)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


def _vgg_layers(plan: Sequence[tuple[int, int]], channels: int, stage_end: StageEnd) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for count, width in plan:
        for i in range(count):
            stride = 2 if stage_end == "stride" and i == count - 1 else 1
            layers += [nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        if stage_end == "max_pool":
            layers.append(nn.MaxPool2d(2))
    return layers


def _vgg_head(features: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, classes),
    )


class CifarResNet(nn.Module):
    """ResNet for small pictures, with torchvision's blocks: 3 x 3 stride-1 stem, no max-pool.

    Args:
        block: torchvision's `BasicBlock` or `Bottleneck`.
        stages: blocks in each stage.
        planes: channels of the first stage at width 1; they double from stage to stage.
        classes: number of scores.
        width: factor of all hidden layers.
        channels: of the input.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        stages: Sequence[int],
        planes: int,
        *,
        classes: int,
        width: float = 1.0,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.inplanes = scaled(planes, width)
        self.conv1 = nn.Conv2d(channels, self.inplanes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(self.inplanes)
        self.relu = nn.ReLU(inplace=True)
        widths = [scaled(planes * 2**i, width) for i in range(len(stages))]
        counted = enumerate(zip(widths, stages, strict=True))
        self.layers = nn.Sequential(*(self._stage(block, w, n, i) for i, (w, n) in counted))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.inplanes, classes)

    def _stage(self, block: type[BasicBlock] | type[Bottleneck], planes: int, count: int, index: int) -> nn.Sequential:
        blocks: list[nn.Module] = []
        for i in range(count):
            stride = 2 if index > 0 and i == 0 else 1
            blocks.append(block(self.inplanes, planes, stride, self._projection(planes * block.expansion, stride)))
            self.inplanes = planes * block.expansion
        return nn.Sequential(*blocks)

    def _projection(self, planes: int, stride: int) -> nn.Module | None:
        if stride == 1 and planes == self.inplanes:
            return None
        return nn.Sequential(nn.Conv2d(self.inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, classes)."""
        x = self.layers(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class CifarDenseNet(nn.Module):
    """DenseNet-BC for small pictures, with torchvision's blocks: 3 x 3 stride-1 stem, maps halved between blocks.

    Args:
        layers: dense layers in each block.
        growth: new maps of each layer at width 1.
        classes: number of scores.
        width: factor of the growth rate, and thus of all hidden layers.
        channels: of the input.
    """

    def __init__(
        self, layers: Sequence[int], growth: int, *, classes: int, width: float = 1.0, channels: int = 3
    ) -> None:
        super().__init__()
        new = scaled(growth, width)
        maps = 2 * new
        self.features = nn.Sequential(OrderedDict(conv0=nn.Conv2d(channels, maps, 3, padding=1, bias=False)))
        for i, count in enumerate(layers):
            self.features.add_module(f"denseblock{i + 1}", _DenseBlock(count, maps, 4, new, 0.0))
            maps += count * new
            if i < len(layers) - 1:
                self.features.add_module(f"transition{i + 1}", _Transition(maps, maps // 2))
                maps //= 2
        self.features.add_module("norm", nn.BatchNorm2d(maps))
        self.features.add_module("relu", nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(maps, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, classes)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


def _densenet(layers: Sequence[int], growth: int) -> Callable[..., nn.Module]:
    return lambda **options: CifarDenseNet(layers, growth, **options)


def _resnet(stages: Sequence[int], block: type[BasicBlock] | type[Bottleneck], planes: int) -> Callable[..., nn.Module]:
    return lambda **options: CifarResNet(block, stages, planes, **options)


def _bagnet(window: int, blocks: int, planes: int) -> Callable[..., nn.Module]:
    def build(width: float = 1.0, **options: Any) -> nn.Module:
        return BagNet(window, blocks, scaled(planes, width), **options)

    return build


def _vgg(depth: int) -> Callable[..., nn.Module]:
    return lambda **options: CifarVGG(depth, **options)


CIFAR_MODELS: dict[str, Callable[..., nn.Module]] = {
    "vgg11": _vgg(11),
    "vgg16": _vgg(16),
    "resnet20": _resnet((3, 3, 3), BasicBlock, 16),
    "resnet32": _resnet((5, 5, 5), BasicBlock, 16),
    "resnet56": _resnet((9, 9, 9), BasicBlock, 16),
    "resnet50": _resnet((3, 4, 6, 3), Bottleneck, 64),
    "resnet152": _resnet((3, 8, 36, 3), Bottleneck, 64),
    "densenet22": _densenet((3, 3, 3), 12),
    "densenet40": _densenet((6, 6, 6), 12),
    "densenet100": _densenet((16, 16, 16), 12),
    "bagnet4": _bagnet(4, 3, 64),
}


def initialise(module: nn.Module) -> nn.Module:
    """He's normal initialisation, in place, of convolutions and of linear layers before a ReLU.

    The three-layer head has no batch norm: with torch's smaller default initialisation its scores start nearly equal,
    and the first epochs are lost.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    for m in _hidden_linears(module):
        nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        nn.init.zeros_(m.bias)
    return module


def _hidden_linears(module: nn.Module) -> list[nn.Linear]:
    return [m for m in module.modules() if isinstance(m, nn.Linear)][:-1]


def make(name: str, *, seed: int = 0, **options: object) -> nn.Module:
    """A CIFAR network with random weights; the same seed gives bit-identical weights.

    Args:
        name: a key of `CIFAR_MODELS`.
        seed: of the initial weights; the global random state is restored.
        **options: classes, width, channels, stage_end.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the accelerators
        return initialise(CIFAR_MODELS[name](**options))
