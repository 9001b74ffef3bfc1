"""The weights that recalibration has learned, averaged over pictures, as maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from whatwhere.data import Data
from whatwhere.data.load import load_pictures
from whatwhere.errors import InputError
from whatwhere.lab.rows import checked_counts
from whatwhere.network import Network
from whatwhere.report.panels import maps_figure
from whatwhere.site import evaluating
from whatwhere.use.ms_sar import MSSAR

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Gates:
    """The weights of one module over some pictures.

    Attributes:
        n: number of pictures.
        mean: (cells, cells, C) over pictures.
        spread: (cells, cells, C) standard deviation over pictures: how much the weights depend on content.
    """

    n: int
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @property
    def asymmetry(self) -> float:
        """Standard deviation of the mean over cells, averaged over channels: how much weights depend on position."""
        return float(self.mean.std((0, 1)).mean())


def gates(
    net: nn.Module | Network, data: Data | str | os.PathLike[str], *, pictures: int = 256, batch_size: int = 64
) -> dict[str, Gates]:
    """The weights of each recalibration module, over some test pictures.

    >>> ww.use.plot_gates(ww.use.gates(gated, data))

    Args:
        net: a network with `MSSAR` modules; its state is restored.
        data: pictures, with or without labels.
        pictures: number of test pictures, at most.
        batch_size: pictures in a forward pass.

    Returns:
        By module name, in the network's order.

    Raises:
        InputError: if the network has no such module.
    """
    checked_counts(pictures=pictures, batch_size=batch_size)
    net, split = net if isinstance(net, Network) else Network(net), load_pictures(data).test.take(pictures)
    modules = {name: m for name, m in net.module.named_modules() if isinstance(m, MSSAR)}
    if not modules:
        raise InputError("net holds no recalibration module (MSSAR, SE); make one with ww.use.recalibrate.")
    before = {m: m.keep_gate for m in modules.values()}
    sums: dict[str, list[NDArray[np.float64]]] = {name: [] for name in modules}
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
    """A row for each module: the mean over channels, then the channels whose weights differ most between cells."""
    rows = {name: _shown(g, channels) for name, g in found.items()}
    names = ["all channels", *(f"most uneven {i + 1}" for i in range(channels))]
    return maps_figure(rows, names, title="mean weight of every cell, from least to greatest in each map")


def _shown(g: Gates, channels: int) -> list[NDArray[np.float64] | None]:
    uneven = np.argsort(-g.mean.std((0, 1)))[:channels]
    shown: list[NDArray[np.float64] | None] = [g.mean.mean(2), *(g.mean[:, :, c] for c in uneven)]
    return shown + [None] * (channels + 1 - len(shown))
