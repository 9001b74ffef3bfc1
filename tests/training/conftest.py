from collections.abc import Callable

import pytest
import torch
from torch import nn

from whatwhere.data.sources import Memory
from whatwhere.data.split import Split
from whatwhere.network import Network, Preprocessing

MakeSplit = Callable[..., Split]
MakeNet = Callable[..., Network]


@pytest.fixture
def pictures() -> MakeSplit:
    def make(n: int = 22, classes: int = 3, labelled: bool = True, seed: int = 0) -> Split:
        g = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (n, 3, 6, 6), generator=g, dtype=torch.uint8)
        labels = torch.arange(n) % classes if labelled else torch.full((n,), -1)
        return Split("train", Memory(images), labels, [str(i) for i in range(classes)] if labelled else ())

    return make


@pytest.fixture
def small_net() -> MakeNet:
    """Convolution, batch norm, dropout, linear: (N, 3, 6, 6) to (N, classes)."""

    def make(classes: int = 3, seed: int = 0) -> Network:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout(0.3),
                nn.Flatten(),
                nn.Linear(144, classes),
            )
        return Network(module, Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)), "small")

    return make
