"""Random small networks with random pictures, as hypothesis strategies: what someone may ask an audit of."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import whatwhere as ww
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory

WHERE = st.sampled_from((1, 2, 5, 8, 12))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.conv(x))


class Branches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.a(x), self.b(x)), 1)[:, ::2]


class InDict(nn.Sequential):
    def forward(self, x: Tensor) -> Any:
        return {"out": super().forward(x)}


BLOCKS = {
    "plain": lambda w: nn.Conv2d(w, w, 3, padding=1),
    "depthwise": lambda w: nn.Conv2d(w, w, 3, padding=1, groups=w),
    "normed": lambda w: nn.Sequential(nn.Conv2d(w, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU()),
    "dropout": lambda w: nn.Sequential(nn.Conv2d(w, w, 3, padding=1), nn.Dropout(0.5)),
    "strided": lambda w: nn.Conv2d(w, w, 3, padding=1, stride=2),
    "residual": Residual,
    "branches": Branches,
}
FAULTS = ("none", "none", "none", "constant", "dead")


@st.composite
def networks(draw: st.DrawFn, size: tuple[int, int, int], classes: int) -> ww.Network:
    """A classifier of one to three blocks, whole or with a fault in its weights."""
    width = draw(st.sampled_from((1, 2, 4)))
    kinds = draw(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=3))
    whole = InDict if draw(st.booleans()) and draw(st.booleans()) else nn.Sequential
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw(st.integers(0, 99)))
        blocks = [BLOCKS[kind](width) for kind in kinds]
        last = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
        module = whole(nn.Conv2d(size[0], width, 3, padding=1), nn.ReLU(), *blocks, *last).eval()
    _spoil(module, draw(st.sampled_from(FAULTS)))
    return ww.Network(module, name="-".join(kinds), input_size=size)


def _spoil(module: nn.Sequential, fault: str) -> None:
    value = {"constant": 0.0, "dead": -1e3}.get(fault)
    if value is None:
        return
    at = module[-1].weight if fault == "constant" else module[0].bias
    with torch.no_grad():
        at.fill_(value)


@st.composite
def audits(draw: st.DrawFn) -> dict[str, Any]:
    """What `ww.audit` takes, short of a folder."""
    size = (3, *draw(st.tuples(WHERE, WHERE).filter(lambda s: s != (1, 1))))  # 1 x 1 is refused
    classes, n = draw(st.sampled_from((2, 3))), draw(st.sampled_from((1, 2, 3, 9)))
    images = torch.randint(0, 255, (n, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    labels = torch.arange(n) % classes if draw(st.booleans()) else torch.full((n,), -1)
    names = tuple("abc"[:classes]) if bool((labels >= 0).all()) else ()
    return {
        "model": draw(networks(size, classes)),
        "data": Data("few", {"test": Split("test", Memory(images), labels, names)}),
        "minutes": 1e-4,
        "seed": draw(st.integers(0, 3)),
        "within": draw(st.sampled_from((0.0, 0.01, 1.0))),
        "without": (
            "check",
            *draw(st.lists(st.sampled_from(("need", "patches", "hold", "fields", "use")), max_size=1)),
        ),
    }
