"""The position pattern from padding: what padding adds to features, position by position, measured directly.

Source: after Lin et al., arXiv 2206.01202, of which we know the abstract only; the definition is ours. A picture is cut
out of a larger one. The network runs on the cut-out, which it pads, and on the larger picture, whose true surroundings
stand where the padding was. The difference of the two at the same positions is what the padding did; its mean over
pictures is the pattern, which marks positions whatever the content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.hold.uneven import Pair, window_of
from whatwhere.network import Network, as_module
from whatwhere.site import Selection, Site, Sites, blank_picture, evaluating
from whatwhere.site_table import list_sites

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PatternAt:
    """What padding adds to the output of one site.

    Attributes:
        site: its name.
        n: how many pictures.
        pattern: (C, h, w), the mean over pictures of the features with padding minus those with true surroundings,
            in the features' own units.
        snr: power of the pattern over power of what varies around it from picture to picture: the sum of mean^2 -
            variance / n (unbiased; 0 if that is negative) over the sum of the variance, all channels and positions.
            0 where padding has no effect, infinite for one that is the same for all pictures.
        by_border: (ceil(min(h, w) / 2),), the pattern's root mean square over channels and positions, by the distance
            to the nearest border (0 is the border itself), as a share of the root mean square of the features with
            true surroundings. It is not corrected for the variance / n that chance adds to its square.
    """

    site: str
    n: int
    pattern: Floats
    snr: float
    by_border: Floats


def padding_pattern(
    net: nn.Module | Network, pictures: Iterable[Tensor], *, size: int, margin: int, sites: Selection = None
) -> list[PatternAt]:
    """The position pattern that padding leaves on the features of a network.

    >>> found = padding_pattern(net, batches, size=224, margin=64, sites="layer*")   # batches of (N, 3, 352, 352)

    The larger picture is padded as well, at its own border: take a margin of at least half the receptive field of
    the sites, or read the result as a lower bound. Differences of about 1e-7 of the features are rounding.

    Args:
        net: the network; it is left alone, and runs in evaluation mode.
        pictures: batches (N, C, size + 2 margin, size + 2 margin), floating, prepared as the network expects them.
        size: height and width in pixels of the cut-out from the centre.
        margin: pixels of surroundings on each side; a multiple of the strides before each site.
        sites: of whose output maps; None: every convolution that looks at more than one position.

    Returns:
        One entry a site, in execution order.

    Raises:
        InputError: if size or margin is out of range, the pictures have another shape or are fewer than 2, the
            network does not run on them, the selection matches nothing, a site's output is not a map, or the two maps
            of a site do not lie on the same grid.
    """
    _check_sizes(size, margin)
    batches = (_checked(batch, size, margin) for batch in pictures)
    first = next(batches, None)
    if first is None:
        raise InputError("pictures is empty; give batches of shape (N, C, size + 2 margin, size + 2 margin).")
    grids = _grids(net, sites, first.shape[1], size, margin)
    sums = _accumulated(as_module(net), chain([first], batches), grids, margin)
    return [sums[g.site.name].result() for g in grids]


def pattern_sites(
    net: nn.Module | Network, *, channels: int, size: int, margin: int, sites: Selection = None
) -> list[str]:
    """The names of the sites whose pattern `padding_pattern` would measure, found on blank pictures.

    Args:
        net: as there.
        channels: of the pictures.
        size: as there.
        margin: as there.
        sites: as there.

    Raises:
        InputError: as there.
    """
    return [g.site.name for g in _grids(net, sites, channels, size, margin)]


def _check_sizes(size: int, margin: int) -> None:
    if size < 1 or margin < 1:
        raise InputError(f"size={size}, margin={margin}: give both in pixels, at least 1 each.")


def _checked(batch: Any, size: int, margin: int) -> Tensor:
    side = size + 2 * margin
    if not isinstance(batch, Tensor) or batch.ndim != 4 or tuple(batch.shape[2:]) != (side, side):
        seen = tuple(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
        raise InputError(
            f"pictures: each batch must be (N, C, {side}, {side}) for size={size} and margin={margin}, not {seen}; "
            "give an iterable of such tensors."
        )
    if not batch.is_floating_point():
        raise InputError(f"pictures are {batch.dtype}; prepare them first (net.preprocessing.normalise).")
    return batch


def _with_maps(table: Sites, which: Selection) -> list[Site]:
    if which is None and not table.of_kind("conv"):
        raise InputError("sites=None takes the spatial convolutions, and the network has none; name the sites.")
    chosen = table.select(which) if which is not None else list(table.of_kind("conv"))
    flat = next((s for s in chosen if s.shape is None), None)
    if flat is not None:
        raise InputError(f"sites: the output of {flat.name} is not a map; choose sites with an output shape (C, H, W).")
    return chosen


# ---- the same grid in both maps


@dataclass(frozen=True)
class _Grid:
    """Where the map of the cut-out lies in that of the larger picture."""

    site: Site
    layout: str  # of the output
    offset: Pair  # (rows, columns) in the larger map

    def maps(self, output: Tensor) -> Tensor:
        """(N, C, h, w) of the site's output."""
        if self.layout == "NCHW":
            return output
        if self.layout == "NHWC":
            return output.movedim(-1, 1)
        prefix = int(self.layout.removeprefix("tokens+"))
        side = isqrt(output.shape[1] - prefix)
        return output[:, prefix:].unflatten(1, (side, side)).movedim(-1, 1)

    def centre(self, maps: Tensor) -> Tensor:
        """The part of the larger map (N, C, h', w') that the cut-out's covers, (N, C, h, w)."""
        assert self.site.shape
        (top, left), (_, h, w) = self.offset, self.site.shape
        return maps[:, :, top : top + h, left : left + w]


def _grids(net: nn.Module | Network, sites: Selection, channels: int, size: int, margin: int) -> list[_Grid]:
    _check_sizes(size, margin)
    module, large = as_module(net), size + 2 * margin
    table = list_sites(net, input_size=(channels, size, size))
    chosen = _with_maps(table, sites)
    with evaluating(module):
        outputs = _outputs(module, blank_picture(module, (channels, size, size)), chosen)
        larger = _try_larger(module, blank_picture(module, (channels, large, large)), chosen)
    strides = _strides(table, module, size)
    return [_grid(s, outputs[s.name], larger[s.name], strides, size, margin) for s in chosen]


def _grid(site: Site, output: Tensor, larger: Tensor, strides: dict[str, Pair], size: int, margin: int) -> _Grid:
    grid = _Grid(site, _output_layout(output, larger, site), _offset(site, strides, size, margin))
    _check_fits(grid, grid.maps(larger), margin)
    return grid


def _try_larger(module: nn.Module, x: Tensor, chosen: Sequence[Site]) -> dict[str, Tensor]:
    try:
        return _outputs(module, x, chosen)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        seen = str(error).rstrip(".")
        raise InputError(
            f"the network does not run on the larger pictures, {tuple(x.shape[1:])} (C, H, W): {seen}. It must take "
            "pictures of any size, at least up to the last of the sites; choose earlier sites, or another network."
        ) from error


def _output_layout(output: Tensor, larger: Tensor, site: Site) -> str:
    """The layout of the output; where a map is as wide as it has channels, the larger one decides."""
    assert site.shape
    c, h, w = site.shape
    if output.ndim == 3:
        return f"tokens+{output.shape[1] - h * w}"
    fits = {"NCHW": ((c, h, w), larger.shape[1]), "NHWC": ((h, w, c), larger.shape[-1])}
    layouts = [name for name, (shape, channels) in fits.items() if output.shape[1:] == shape and channels == c]
    return layouts[0] if len(layouts) == 1 else site.layout


def _strides(table: Sites, module: nn.Module, size: int) -> dict[str, Pair]:
    """Pixels between neighbours of the output map of a site, as far as layers with a window determine it.

    Maps of the same size have the same stride, so that branches need not be followed.
    """
    of_map: dict[Pair, Pair] = {(size, size): (1, 1)}
    shapes = {s.name: s.shape_in[1:] for s in table}
    for s in table:
        window = window_of(module.get_submodule(s.module))
        before = of_map.get(s.shape_in[1:]) or _before_padding(s, shapes, of_map)
        if window and before and s.shape:
            of_map.setdefault(s.shape[1:], (before[0] * window.stride[0], before[1] * window.stride[1]))
    return {s.name: of_map[s.shape[1:]] for s in table if s.shape and s.shape[1:] in of_map}


def _before_padding(site: Site, shapes: dict[str, Pair], of_map: dict[Pair, Pair]) -> Pair | None:
    """A map that is in no table may be the padded input of the group that the site is in (`PaddedPool`)."""
    around = shapes.get(site.parents[-1]) if site.parents else None
    (h, w), (rows, columns) = around or (0, 0), site.shape_in[1:]
    return of_map.get((h, w)) if h <= rows and w <= columns else None


def _offset(site: Site, strides: dict[str, Pair], size: int, margin: int) -> Pair:
    assert site.shape
    stride = strides.get(site.name) or _whole_ratio(site, size)
    if margin % stride[0] or margin % stride[1]:
        step = int(np.lcm(*stride))
        raise InputError(
            f"margin={margin}: the map of {site.name} has a position every {stride[0]} x {stride[1]} pixels; give a "
            f"multiple of {step}, such as {step * max(1, round(margin / step))}."
        )
    return margin // stride[0], margin // stride[1]


def _whole_ratio(site: Site, size: int) -> Pair:
    """The stride of a map that no layer accounts for (functional pools, patch merging)."""
    assert site.shape
    _, h, w = site.shape
    if size % h or size % w:
        raise InputError(
            f"size={size}: it is unclear how the {h} x {w} map of {site.name} lies on the picture; give a size that is "
            "a multiple of its height and width, or choose other sites."
        )
    return size // h, size // w


def _check_fits(grid: _Grid, larger: Tensor, margin: int) -> None:
    assert grid.site.shape
    (_, h, w), (top, left) = grid.site.shape, grid.offset
    expected = (h + 2 * top, w + 2 * left)
    if tuple(larger.shape[2:]) != expected:
        raise InputError(
            f"sites: the map of {grid.site.name} is {h} x {w}, and {larger.shape[2]} x {larger.shape[3]} instead of "
            f"{expected[0]} x {expected[1]} with margin={margin}, so the two do not lie on the same grid; choose sites "
            "before any pool to a fixed size."
        )


# ---- outputs of sites


class _Enough(Exception):
    """Every output has been seen; the rest of the network need not run (and a head may not fit)."""


def _outputs(module: nn.Module, x: Tensor, sites: Sequence[Site]) -> dict[str, Tensor]:
    """The raw outputs of some sites, copied, as the layer after may work in place."""
    kept: dict[str, Tensor] = {}
    with suppress(_Enough), _hooked(module, sites, kept):
        module(x)
    return kept


@contextmanager
def _hooked(module: nn.Module, sites: Sequence[Site], kept: dict[str, Tensor]) -> Iterator[None]:
    wanted = {(s.module, s.call): s.name for s in sites}
    calls: Counter[str] = Counter()

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_m: nn.Module, _args: Any, output: Tensor) -> None:
            calls[name] += 1
            if (name, calls[name]) in wanted:
                kept[wanted[name, calls[name]]] = output.detach().clone()
            if len(kept) == len(wanted):
                raise _Enough

        return hook

    handles = [module.get_submodule(n).register_forward_hook(hook_for(n)) for n in {s.module for s in sites}]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# ---- mean and variance, streaming


class _Sums:
    """Mean and variance over pictures of one site's differences, and the power of its features."""

    def __init__(self, grid: _Grid) -> None:
        self.grid, self.n, self.power = grid, 0, 0.0
        self.mean: Floats = np.zeros(())
        self.squares: Floats = np.zeros(())  # sum of squared distances to the mean

    def add(self, padded: Tensor, larger: Tensor) -> None:
        """Take in a batch of raw outputs."""
        truth = self.grid.centre(self.grid.maps(larger)).cpu().double()  # not every accelerator has float64
        difference: Floats = (self.grid.maps(padded).cpu().double() - truth).numpy()
        self.power += float(truth.square().mean((1, 2, 3)).sum())
        self._merge(difference)

    def _merge(self, batch: Floats) -> None:
        """Chan's update: no cancellation, however many pictures."""
        n, mean = len(batch), batch.mean(0)
        apart = mean - self.mean
        self.squares = self.squares + ((batch - mean) ** 2).sum(0) + apart**2 * (self.n * n / (self.n + n))
        self.mean = self.mean + apart * (n / (self.n + n))
        self.n += n

    def result(self) -> PatternAt:
        """The finished numbers."""
        features = np.sqrt(self.power / self.n)
        rms = rms_by_border(self.mean)
        share = np.divide(rms, features, out=np.where(rms > 0, np.inf, 0.0), where=features > 0)
        return PatternAt(self.grid.site.name, self.n, self.mean, self._snr(), share)

    def _snr(self) -> float:
        variance = self.squares / (self.n - 1)
        noise = float(variance.sum())
        signal = max(float((self.mean**2 - variance / self.n).sum()), 0.0)
        if noise == 0:
            return float("inf") if signal > 0 else 0.0
        return signal / noise


def _accumulated(module: nn.Module, batches: Iterable[Tensor], grids: Sequence[_Grid], margin: int) -> dict[str, _Sums]:
    sums = {g.site.name: _Sums(g) for g in grids}
    like = next(module.parameters(), torch.empty(0))
    chosen = [g.site for g in grids]
    with evaluating(module):
        for batch in batches:
            x = batch.to(like.device, like.dtype)
            padded = _outputs(module, x[:, :, margin:-margin, margin:-margin], chosen)
            larger = _outputs(module, x, chosen)
            for name, s in sums.items():
                s.add(padded.pop(name), larger.pop(name))
    if any(s.n < 2 for s in sums.values()):
        raise InputError("pictures: fewer than 2, and a variance over pictures needs at least 2.")
    return sums


def rms_by_border(pattern: Floats) -> Floats:
    """Root mean square of a map over channels and positions, by distance to the nearest border.

    Args:
        pattern: (C, h, w).

    Returns:
        (ceil(min(h, w) / 2),), the border itself first.
    """
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in pattern.shape[1:])
    distance = np.minimum(rows[:, None], columns[None, :]).ravel()
    power = (pattern**2).mean(0).ravel()
    return np.sqrt(np.bincount(distance, power) / np.bincount(distance))
