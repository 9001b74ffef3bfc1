"""Pictures of 8 x 8 whose class is where or what, and a network of one convolution."""

import torch
from torch import nn

import whatwhere as ww
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory


def pictures(task: str, n: int, seed: int) -> Split:
    """Two classes of noise: "stripes" that lie or stand, which the mean colour does not tell; few or many "dots"."""
    draws, labels = torch.Generator().manual_seed(seed), torch.arange(n) % 2
    images = torch.randint(0, 60, (n, 3, 8, 8), generator=draws, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        if task == "stripes":
            (image[:, ::2] if label else image[:, :, ::2]).add_(150)
        else:
            image.view(3, 64)[:, torch.randperm(64, generator=draws)[: 28 if label else 8]] += 150
    return Split("some", Memory(images), labels, ("a", "b"))


def data(task: str = "stripes") -> Data:
    return Data(task, {"train": pictures(task, 128, 0), "test": pictures(task, 60, 1)})


def network(seed: int = 0) -> ww.Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
        )
    return ww.Network(module.eval(), name="toy")
