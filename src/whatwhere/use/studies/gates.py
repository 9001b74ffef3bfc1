"""Look inside: the weights that recalibration learned, averaged over pictures, as maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from whatwhere.data import Data, load_data
from whatwhere.errors import InputError
from whatwhere.network import Network
from whatwhere.recalibration import MSSAR
from whatwhere.report.panels import maps_figure
from whatwhere.sites import evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Gates:
    """The weights of one module over some pictures.

    Attributes:
        n: pictures.
        mean: (cells, cells, C) over pictures.
        spread: (cells, cells, C) standard deviation over pictures: how much content decides.
    """

    n: int
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @property
    def asymmetry(self) -> float:
        """Standard deviation of the mean over cells, averaged over channels: how much position decides."""
        return float(self.mean.std((0, 1)).mean())


def gates(
    net: nn.Module | Network, data: Data | str | os.PathLike[str], *, pictures: int = 256, batch_size: int = 64
) -> dict[str, Gates]:
    """The weights that each recalibration module gives, over some test pictures.

    >>> found = gates(gated, data)
    >>> plot_gates(found)

    Args:
        net: a network with `MSSAR` modules; its state is put back.
        data: pictures, with or without labels.
        pictures: at most so many.
        batch_size: in a forward pass.

    Returns:
        By module name, in execution order of the names.

    Raises:
        InputError: if there is no such module in the network.
    """
    net, data = net if isinstance(net, Network) else Network(net), data if isinstance(data, Data) else load_data(data)
    modules = {name: m for name, m in net.module.named_modules() if isinstance(m, MSSAR)}
    if not modules:
        raise InputError("net holds no recalibration module (MSSAR, SE); make one with ww.recalibrate.")
    before = {m: m.keep_gate for m in modules.values()}
    sums: dict[str, list[NDArray[np.float64]]] = {name: [] for name in modules}
    split = data.test.take(pictures)
    try:
        for m in modules.values():
            m.keep_gate = True
        with evaluating(net.module):
            for images, _ in split.batches(batch_size, geometry=net.preprocessing):
                net.module(net.preprocessing.normalise(images))
                for name, m in modules.items():
                    g = m.gate.double().cpu().numpy()
                    sums[name].append(np.stack([g.sum(0), (g**2).sum(0)]))
    finally:
        for m, kept in before.items():
            m.keep_gate, m.gate = kept, m.gate.new_empty(0)
    return {name: _gates(np.sum(parts, axis=0), len(split)) for name, parts in sums.items()}


def _gates(sums: NDArray[np.float64], n: int) -> Gates:
    mean = sums[0] / n
    return Gates(n, mean, np.sqrt(np.maximum(sums[1] / n - mean**2, 0)))


def plot_gates(found: Mapping[str, Gates], *, channels: int = 4) -> Figure:
    """A row for each module: the mean over channels, then the channels that differ most between cells."""
    rows = {name: _shown(g, channels) for name, g in found.items()}
    names = ["all channels", *(f"most uneven {i + 1}" for i in range(channels))]
    return maps_figure(rows, names, title="mean weight of every cell, from least to greatest in each map")


def _shown(g: Gates, channels: int) -> list[NDArray[np.float64] | None]:
    uneven = np.argsort(-g.mean.std((0, 1)))[:channels]
    shown: list[NDArray[np.float64] | None] = [g.mean.mean(2), *(g.mean[:, :, c] for c in uneven)]
    return shown + [None] * (channels + 1 - len(shown))
