"""Two convolutions and a linear layer on pictures of 16 x 16."""

import torch
from torch import nn

import whatwhere as ww


def small_classifier(seed: int = 0) -> ww.Network:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    ).eval()
    return ww.Network(module, ww.Preprocessing(size=(16, 16)), "small", (3, 16, 16))
