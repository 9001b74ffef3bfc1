"""Small networks of every make, for tests of what is found by dataflow: written by hand, and of the libraries."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, ScaledStdConv2d
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.swin_transformer import SwinTransformer

from whatwhere.graph.flow import Flow
from whatwhere.models.cifar import make
from whatwhere.site import Site


class Forked(nn.Module):
    """A residual block written otherwise: names of its own, operators between its modules."""

    def __init__(self, c: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(c, 2 * c, 3, stride, 1)
        self.second = nn.Conv2d(2 * c, c, 3, 1, 1)
        self.skip = nn.Conv2d(c, c, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.skip(x))


class Averaged(nn.Module):
    """Its last residual block is only averaged, by an operator: a cut inside of the block leaks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = Forked(8)
        self.down = Forked(8, 2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.down(self.block(self.stem(x))).mean((2, 3)))


class Shortcut(nn.Module):
    """As the CIFAR ResNets of pytorch-cifar: a `shortcut`, and an `F.avg_pool2d` at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.conv3, self.bn3 = nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x)))))
        y += self.shortcut(x)
        y = F.avg_pool2d(F.relu(y), 16)
        return self.linear(y.view(y.size(0), -1))


class Flattened(nn.Module):
    """The MNIST network of every tutorial: convolutions, pools, flatten, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
        self.fc1, self.fc2 = nn.Linear(8 * 6 * 6, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))


class Functional(nn.Module):
    """Parameters and operators alone."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(8, 3, 3, 3) / 5), nn.Parameter(torch.randn(8, 8, 3, 3) / 8)
        self.head = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.w1, padding=1))
        x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1)), self.w2)) + x
        return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), self.head)


class Squeezed(nn.Module):
    """Gates on pooled vectors, a grouped and a standardised convolution, a concatenation, a size that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ScaledStdConv2d(3, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.mix = nn.Conv2d(16, 8, 1)
        self.norm = nn.GroupNorm(2, 8)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if x.shape[-1] % 2:
            x = F.pad(x, (0, 1))
        y = self.wide(x)
        y = self.mix(torch.cat([x, y * self.gate(y)], 1))
        n, c, h, w = self.last(self.norm(y)).shape
        z = self.last(self.norm(y)).reshape(n, c, h * w)
        return self.fc(z.mean(-1))


HAND: dict[str, Callable[[], nn.Module]] = {
    "averaged": Averaged,
    "shortcut": Shortcut,
    "flattened": Flattened,
    "functional": Functional,
    "squeezed": Squeezed,
}
PAPERS: dict[str, Callable[[], nn.Module]] = {
    "vgg11": lambda: make("vgg11", classes=5, width=1 / 16),
    "resnet": lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5),
    "bottlenecks": lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5),
}


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=5, **options)


LIBRARIES: dict[str, Callable[[], nn.Module]] = {
    "densenet": lambda: DenseNet(4, (2, 2), 8, num_classes=5),
    "efficientnet": _timm("test_efficientnet"),
    "byobnet": _timm("test_byobnet"),
    "preact": lambda: ResNetV2(
        [1, 1, 1, 1], channels=(8, 16, 16, 16), stem_chs=8, num_classes=5, norm_layer=BatchNormAct2d
    ),
    "convnext": _timm("test_convnext"),
    "nfnet": _timm("test_nfnet"),
    "coatnet": _timm("test_coatnet", img_size=32),
    "vit": _timm("test_vit", img_size=32),
    "swin": lambda: SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=5),
}
SIZE = (3, 32, 32)


def drawn(make_net: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network with weights of its own, norms' statistics among them, and no branch that counts for nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make_net()
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and m.running_var is not None:
                m.running_mean.normal_(std=0.1)
                m.running_var.uniform_(0.5, 1.5)
        for p in net.parameters():
            if not p.any():  # a residual branch that begins at zero
                nn.init.normal_(p, std=0.3)
    return net.eval()


def holds_all_that_follows(flow: Flow, site: Site) -> bool:
    """Whether whoever reads the map that enters a site is in the site, so that hooks on it reach them all."""
    entry = flow.entering(site)
    readers = flow.users[entry] if entry else ()
    return bool(readers) and all(site.module in flow.owners(n) for n in readers)
