"""PSPNet (Zhao et al., CVPR 2017) on a dilated timm ResNet, at any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from whatwhere.errors import InputError, downloading, unknown
from whatwhere.models.cifar import scaled

BINS = (1, 2, 3, 6)
CHANNELS = (64, 128, 256, 512)  # of timm's ResNets at width 1, before a bottleneck block's expansion


class PSPNet(nn.Module):
    """Pyramid scene parsing: features at an eighth of the resolution, with their surroundings at four scales.

    Args:
        backbone: a timm ResNet's name; its last two stages are dilated so that its maps have stride 8.
        classes: number of scores for each pixel.
        width: factor of the channels of the backbone's stages, and thus of all later layers; each stage keeps a
            multiple of 4 (the levels of the pyramid share them), and at least 16.
        bins: cells per side of each level of the pyramid.
        dropout: probability, before the classifier.
        pretrained: timm's own weights of the backbone, which it downloads; at width 1 only.

    In training mode the network returns (scores, auxiliary scores): the auxiliary head reads the stage before the last,
    and its loss helps the early layers. In evaluation mode it returns the scores. Both have the size of the input.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        classes: int,
        width: float = 1.0,
        bins: Sequence[int] = BINS,
        dropout: float = 0.1,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = dilated(backbone, width, pretrained)
        auxiliary, last = self.backbone.feature_info.channels()
        self.pyramid = Pyramid(last, bins)
        maps = max(4, last // 4)
        self.fuse = conv_bn_relu(2 * last, maps, 3)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(maps, classes, 1))
        few = max(4, auxiliary // 4)
        self.auxiliary = nn.Sequential(conv_bn_relu(auxiliary, few, 3), nn.Conv2d(few, classes, 1))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(N, 3, H, W) to (N, classes, H, W); in training mode to two of these."""
        early, late = self.backbone(x)
        size = x.shape[-2:]
        scores = resized(self.classify(self.fuse(self.pyramid(late))), size)
        return (scores, resized(self.auxiliary(early), size)) if self.training else scores


class Pyramid(nn.Module):
    """The input concatenated with its means over ever finer cells, each reduced by a 1 x 1 convolution.

    Args:
        channels: C of the input.
        bins: cells per side; each level has C / len(bins) channels.
    """

    def __init__(self, channels: int, bins: Sequence[int] = BINS) -> None:
        super().__init__()
        each = channels // len(bins)
        if each * len(bins) != channels:
            raise InputError(f"bins={tuple(bins)}: {channels} channels cannot be shared evenly by {len(bins)} levels.")
        self.bins = tuple(bins)
        self.levels = nn.ModuleList(conv_bn_relu(channels, each, 1) for _ in bins)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2C, H, W)."""
        levels = [
            resized(level(functional.adaptive_avg_pool2d(x, cells)), x.shape[-2:])
            for cells, level in zip(self.bins, self.levels, strict=True)
        ]
        return torch.cat([x, *levels], 1)


def conv_bn_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """A convolution that keeps the size, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, not aligned at the corners."""
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def dilated(name: str, width: float, pretrained: bool) -> Any:
    """A timm ResNet that returns the maps of its last two stages, both at stride 8.

    Raises:
        InputError: for a name that is not one of timm's ResNets, or pretrained weights at another width.
    """
    import timm  # takes seconds to import

    resnets = timm.list_models("*resne*", module="resnet")
    if name.split(".")[0] not in resnets:
        raise unknown("backbone", name, resnets)
    if pretrained and width != 1.0:
        raise InputError(f"width={width}: timm's weights are for width 1; leave out pretrained or width.")
    options: dict[str, Any] = {} if width == 1.0 else {"channels": tuple(4 * scaled(c // 4, width) for c in CHANNELS)}
    try:
        with downloading("timm", name):
            return timm.create_model(
                name, pretrained=pretrained, features_only=True, output_stride=8, out_indices=(3, 4), **options
            )
    except RuntimeError as error:
        if "No pretrained weights" in str(error):
            raise InputError(
                f"pretrained=True: timm has no weights of {name}; leave pretrained out, or give weights=FILE."
            ) from error
        if "tag" not in str(error):
            raise
        raise unknown("backbone", name, timm.list_models(f"{name.split('.')[0]}.*", pretrained=True)) from error
