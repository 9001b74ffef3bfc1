"""A network that sees small windows and not their positions: the idea of BagNets, for 32 x 32 pictures.

Source: [brendel2019]. Deviation: windows do not overlap and there is no padding, so that each position sees exactly
one window, and the scores are a function of the multiset of windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BagBlock(nn.Module):
    """A residual block of 1 x 1 convolutions, which do not enlarge the receptive field.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None  # the name by which residual blocks are recognised

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(branch + x)


class BagNet(nn.Module):
    """Adjacent windows of `window` x `window` pixels, each through the residual blocks, then averaged.

    The receptive field is `window` pixels at every layer before the average. A 32 x 32 picture gives a map of 8 x 8
    positions at `window=4`, and the quadrants of the map are those of the picture.

    Args:
        window: side length and stride of the windows, in pixels.
        blocks: residual blocks.
        planes: channels of every layer.
        classes: number of scores.
        channels: of the input.
    """

    def __init__(self, window: int, blocks: int, planes: int, *, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, window, stride=window, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.layers = nn.Sequential(*(BagBlock(planes) for _ in range(blocks)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(planes, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, classes)."""
        return self.fc(torch.flatten(self.avgpool(self.maps(x)), 1))

    def maps(self, x: Tensor) -> Tensor:
        """The map that is averaged: (N, C, H, W) to (N, planes, H / window, W / window)."""
        return self.layers(self.relu(self.bn1(self.conv1(x))))
