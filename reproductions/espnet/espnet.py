"""ESPNet (Mehta, Rastegari, Caspi, Shapiro, Hajishirzi, ECCV 2018), with the names that its published weights have.

An own implementation, after the paper and the names and shapes of the weights; p = 2 and q = 8, as trained on CamVid.
In the root of the repository, with the file of the weights and the folder of CamVid:

    whatwhere evaluate --model reproductions.espnet.espnet:camvid --weights ESPNET --data CAMVID

The last of its 12 outputs is for unlabelled pixels, which no label map asks for: `camvid` leaves it out, `with_void`
keeps it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import whatwhere as ww

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
DILATIONS = (1, 2, 4, 8, 16)
LEVELS = (16, 64, 128)  # channels at strides 2, 4, 8
SCALE = 255  # the authors' transform divides once more after the normalisation
CAMVID = ww.Preprocessing(
    mean=(109.94 / 255, 108.08 / 255, 104.80 / 255),
    std=(77.91 / 255, 79.07 / 255, 78.03 / 255),
    order="BGR",
    source="the authors' mean and standard deviation of CamVid's training pictures",
)


def camvid() -> ww.Network:
    """For 480 x 360 pictures of CamVid: scores of its 11 classes."""
    return _network(ESPNet(outputs=12, kept=11), CLASSES)


def with_void() -> ww.Network:
    """The same, with the score of unlabelled pixels."""
    return _network(ESPNet(outputs=12), (*CLASSES, "unlabelled"))


def _network(module: nn.Module, classes: tuple[str, ...]) -> ww.Network:
    return ww.Network(module.eval(), CAMVID, "ESPNet", (3, 360, 480), classes=classes)


class ESPNet(nn.Module):
    """The encoder, and a decoder that joins its levels, the deepest first.

    Args:
        outputs: scores that the layers give.
        kept: of these, how many are given; None, all.
        p: blocks at stride 4.
        q: blocks at stride 8.
    """

    def __init__(self, outputs: int, kept: int | None = None, p: int = 2, q: int = 8) -> None:
        super().__init__()
        half, quarter, _ = LEVELS
        self.kept = kept
        self.encoder = Encoder(outputs, p, q)
        self.level3_C = Conv(2 * quarter + 3, outputs, 1)
        self.br = norm(outputs)
        self.up_l3 = nn.Sequential(twice(outputs))
        self.join_l2 = Join()
        self.combine_l2_l3 = nn.Sequential(NormAct(2 * outputs), Pyramid(2 * outputs, outputs, residual=False))
        self.up_l2 = nn.Sequential(twice(outputs), NormAct(outputs))
        self.join_l1 = Join()
        self.conv = ConvNormAct(half + 3 + outputs, outputs, 3)
        self.classifier = twice(outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) with sides that 8 divides, to scores (N, classes, H, W)."""
        half, quarter, scores = self.encoder(pictures / SCALE)
        deep = self.join_l2(self.level3_C(quarter), self.up_l3(self.br(scores)))
        shallow = self.join_l1(self.up_l2(self.combine_l2_l3(deep)), half)
        return self.classifier(self.conv(shallow))[:, : self.kept]


class Encoder(nn.Module):
    """ESPNet-C: maps at strides 2, 4 and 8, the picture itself beside the first two."""

    def __init__(self, outputs: int, p: int, q: int) -> None:
        super().__init__()
        half, quarter, eighth = LEVELS
        self.sample1 = nn.AvgPool2d(3, stride=2, padding=1)
        self.sample2 = nn.AvgPool2d(3, stride=2, padding=1)
        self.level1 = ConvNormAct(3, half, 3, stride=2)
        self.b1 = NormAct(half + 3)
        self.level2_0 = Downsampling(half + 3, quarter)
        self.level2 = nn.Sequential(*(Pyramid(quarter, quarter) for _ in range(p)))
        self.b2 = NormAct(2 * quarter + 3)
        self.level3_0 = Downsampling(2 * quarter + 3, eighth)
        self.level3 = nn.Sequential(*(Pyramid(eighth, eighth) for _ in range(q)))
        self.b3 = NormAct(2 * eighth)
        self.classifier = Conv(2 * eighth, outputs, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maps at strides 2 and 4, and scores at stride 8."""
        small = self.sample1(pictures)
        half = self.b1(torch.cat([self.level1(pictures), small], 1))
        first = self.level2_0(half)
        quarter = self.b2(torch.cat([self.level2(first), first, self.sample2(small)], 1))
        first = self.level3_0(quarter)
        eighth = self.b3(torch.cat([first, self.level3(first)], 1))
        return half, quarter, self.classifier(eighth)


class Spread(nn.Module):
    """A convolution to a fifth of the channels, then five dilated ones side by side; each sums up the smaller ones.

    The map with dilation 1 is the first of the output, and is in no sum.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        fifth = outputs // len(DILATIONS)
        self.c1 = Conv(inputs, fifth, kernel, stride)
        for d in DILATIONS:
            width = outputs - 4 * fifth if d == 1 else fifth
            self.add_module(f"d{d}", Conv(fifth, width, 3, dilation=d))

    def spread(self, x: Tensor) -> Tensor:
        """All five, one after the other in the channels."""
        x = self.c1(x)
        first, *maps = (self.get_submodule(f"d{d}")(x) for d in DILATIONS)
        for i in range(1, len(maps)):
            maps[i] = maps[i] + maps[i - 1]
        return torch.cat([first, *maps], 1)


class Downsampling(Spread):
    """A spread at half the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 2)
        self.bn = norm(outputs)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        return self.act(self.bn(self.spread(x)))


class Pyramid(Spread):
    """The paper's ESP module: a spread, added to its input."""

    def __init__(self, inputs: int, outputs: int, residual: bool = True) -> None:
        super().__init__(inputs, outputs, 1, 1)
        self.bn = NormAct(outputs)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        new = self.spread(x)
        return self.bn(x + new if self.residual else new)


class Join(nn.Module):
    """Two paths, one after the other in the channels; a module, so that the place has a name."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Maps of one size."""
        return torch.cat([first, second], 1)


class Conv(nn.Module):
    """A convolution that keeps the size, but for its stride; the weights' names have it one level down."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, kernel, stride, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return self.conv(x)


class NormAct(nn.Module):
    """Batch norm and PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = norm(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return self.act(self.bn(x))


class ConvNormAct(NormAct):
    """Convolution, batch norm, PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(outputs)
        self.conv = conv(inputs, outputs, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return super().forward(self.conv(x))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def twice(channels: int) -> nn.ConvTranspose2d:
    """Twice the size, each position on its own."""
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
