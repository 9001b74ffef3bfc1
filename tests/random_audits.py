"""Random small networks with random pictures, as hypothesis strategies: what someone may ask an audit of."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import whatwhere as ww
from whatwhere.data import Data, Split
from whatwhere.data.numbers import NumberSplit
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.label_maps import IGNORE

WHERE = st.sampled_from((1, 2, 5, 8, 12))
TASKS = ("classes", "classes", "classes", "no labels", "scenes", "numbers")
SCORES = {
    "classes": (None, None, "accuracy", "top5", "agreement", "kl"),
    "no labels": (None, "agreement", "feature"),
    "scenes": (None, "miou", "agreement"),
    "numbers": (None, "r2", "mae"),
}


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


class Functional(nn.Module):
    """Everything but the weights in the forward pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), mode="constant")
        return functional.leaky_relu(self.conv(padded), 0.1) * torch.sigmoid(x)


class Tokens(nn.Module):
    """Attention over all positions, back in a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        mixed = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return mixed.transpose(1, 2).reshape(x.shape)


class Named(nn.Sequential):
    """Its answer under a name."""

    def forward(self, x: Tensor) -> Any:
        return {"out": super().forward(x)}


class Paired(nn.Sequential):
    """Its answer beside another."""

    def forward(self, x: Tensor) -> Any:
        answer = super().forward(x)
        return answer, answer


class AsLarge(nn.Module):
    """A map at the size of the picture, whatever its own."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.layers(x), size=x.shape[-2:], mode="nearest")


BLOCKS = {
    "plain": lambda w: nn.Conv2d(w, w, 3, padding=1),
    "depthwise": lambda w: nn.Conv2d(w, w, 3, padding=1, groups=w),
    "pointwise": lambda w: nn.Conv2d(w, w, 1),
    "normed": lambda w: nn.Sequential(nn.Conv2d(w, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU()),
    "dropout": lambda w: nn.Sequential(nn.Conv2d(w, w, 3, padding=1), nn.Dropout(0.5)),
    "strided": lambda w: nn.Conv2d(w, w, 3, padding=1, stride=2),
    "pooled": lambda w: nn.Sequential(nn.Conv2d(w, w, 5, padding=2), nn.MaxPool2d(2, ceil_mode=True)),
    "residual": Residual,
    "branches": Branches,
    "functional": Functional,
    "tokens": Tokens,
}
FAULTS = ("none", "none", "none", "none", "constant", "dead", "not a number")


@st.composite
def networks(draw: st.DrawFn, size: tuple[int, int, int], outputs: int, task: str) -> ww.Network:
    """One to three blocks, whole or with a fault in its weights."""
    width = draw(st.sampled_from((1, 2, 4)))
    kinds = draw(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=3))
    whole = draw(st.sampled_from((nn.Sequential, nn.Sequential, nn.Sequential, Named, Paired)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw(st.integers(0, 99)))
        first = [nn.Conv2d(size[0], width, 3, padding=1), nn.ReLU(), *(BLOCKS[kind](width) for kind in kinds)]
        if task == "scenes":
            module: nn.Module = AsLarge(*first, nn.Conv2d(width, outputs, 1)).eval()
        else:
            last = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs)]
            module = whole(*first, *last).eval()
    _spoil(module, draw(st.sampled_from(FAULTS)))
    return ww.Network(module, name="-".join(kinds), input_size=size)


def _spoil(module: nn.Module, fault: str) -> None:
    """Weights that make an answer the same for every picture, a layer silent, or an answer no number."""
    value = {"constant": 0.0, "dead": -1e3, "not a number": float("nan")}.get(fault)
    if value is None:
        return
    weights = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    at = weights[0].bias if fault == "dead" else weights[-1].weight
    with torch.no_grad():
        if at is not None:
            at.fill_(value)


@st.composite
def pictures(draw: st.DrawFn, task: str, size: tuple[int, int, int], classes: int) -> Any:
    """One to nine pictures of noise, with what comes with them."""
    n, seed = draw(st.sampled_from((1, 2, 3, 9))), torch.Generator().manual_seed(draw(st.integers(0, 9)))
    images = Memory(torch.randint(0, 255, (n, *size), dtype=torch.uint8, generator=seed))
    names = tuple("abcdef"[:classes])
    if task == "numbers":
        return Data("few", {"test": NumberSplit("test", images, torch.randn(n, classes, generator=seed))})
    if task == "scenes":
        maps = torch.randint(0, classes, (n, *size[1:]), dtype=torch.uint8, generator=seed)
        maps[torch.rand(maps.shape, generator=seed) < draw(st.sampled_from((0.0, 0.3, 1.0)))] = IGNORE
        if draw(st.booleans()):
            maps[maps == classes - 1] = 0  # a class that never occurs
        return Scenes("few", {"test": SceneSplit("test", images, {"class": Memory(maps)}, names)})
    labels = torch.arange(n) % classes if task == "classes" else torch.full((n,), -1)
    return Data("few", {"test": Split("test", images, labels, names if task == "classes" else ())})


@st.composite
def audits(draw: st.DrawFn) -> dict[str, Any]:
    """What `ww.audit` takes, short of a folder."""
    task = draw(st.sampled_from(TASKS))
    channels = 3 if task == "scenes" else draw(st.sampled_from((3, 3, 1)))
    size, classes = (channels, draw(WHERE), draw(WHERE)), draw(st.sampled_from((1, 2, 3, 6)))
    return {
        "model": draw(networks(size, classes, task)),
        "data": draw(pictures(task, size, classes)),
        "minutes": 1e-4,
        "score": draw(st.sampled_from(SCORES[task])),
        "seed": draw(st.integers(0, 3)),
        "within": draw(st.sampled_from((0.0, 0.01, 1.0))),
        "without": (
            "check",
            *draw(st.lists(st.sampled_from(("need", "patches", "hold", "fields", "use", "failures")), max_size=2)),
        ),
    }
