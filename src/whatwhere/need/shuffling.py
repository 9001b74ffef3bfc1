"""Spatial shuffling: permute what enters a convolution (Fan et al. 2020).

Every mode is one permutation of the C·H·W entries of a feature map, drawn anew for each forward pass, in training
and in evaluation alike, and applied by one gather. Source: [fan2020] and the authors' published code, read for facts.
Deviations: draws come from a `torch.Generator`, not from NumPy's global state; a draw per picture is offered too.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from whatwhere.errors import InputError, unknown
from whatwhere.graph.around import Ways, ways_round
from whatwhere.interventions import Change, Intervention, When
from whatwhere.need.prefix_tokens import Prefix, prefix_change, prefixed
from whatwhere.network import Network, as_module
from whatwhere.site import Selection, Site, Sites
from whatwhere.site_table import list_sites

Mode = Literal["per-channel", "shared", "all", "channel", "channel-per-position", "block", "rows", "columns", "fixed"]
Scope = Literal["batch", "sample", "fixed"]
Shape = tuple[int, int, int]


def shuffle(
    net: nn.Module | Network,
    sites: Selection = None,
    *,
    mode: Mode = "per-channel",
    scope: Scope = "batch",
    when: When = "always",
    block: tuple[int, int] = (2, 2),
    shortcuts: bool = True,
    padding: Literal["keep", "circular"] = "keep",
    prefix: Prefix = "keep",
    seed: int = 0,
    generator: torch.Generator | None = None,
    table: Sites | None = None,
) -> Intervention:
    """Shuffle, for a while, the maps that enter the selected convolutions.

    >>> with ww.need.shuffle(net, sites="layer4*"):            # every k x k convolution of the last stage
    ...     ww.evaluate(net, data)
    >>> with ww.need.shuffle(net, sites="features.20:"):       # from this convolution on (the paper's main figure)
    ...     ...
    >>> with ww.need.shuffle(net, sites="last 30%", mode="shared", when="eval"): ...

    Args:
        net: the network; it is not changed, and comes back bit-identical when the block ends.
        sites: which places, as `Sites.select` reads them; None is all. Of the selection (a block or stage stands for
            what is in it) the convolutions larger than 1 x 1 are shuffled, as in the paper: a 1 x 1 convolution
            commutes with a shared shuffle. A selection without any acts on the inputs of the selected sites
            themselves (the blocks of a ViT, say).
        mode: what is permuted. `per-channel`: the H·W positions, independently in each channel (the paper's spatial
            shuffle); `shared`: the positions, one permutation for all channels; `all`: all C·H·W entries; `channel`:
            the channels, alike at every position; `channel-per-position`: the channels, independently at each position;
            `block`: positions inside non-overlapping blocks, independently per channel and block; `rows`, `columns`:
            whole rows or columns, alike in all channels; `fixed`: `shared` with one fixed draw (learnable).
        scope: `batch`: one draw shared by the batch, redrawn every forward pass (the paper's); `sample`: one draw per
            picture; `fixed`: one draw per site, the same in every block of the same seed.
        when: in training and evaluation, or in one of them.
        block: (rows, columns) of mode `block`; they must divide the map.
        shortcuts: shuffle what goes round the shuffled convolutions too (independently): the shortcuts of residual
            blocks of any make, what is concatenated past them. Of a projection the input is shuffled, never the output,
            as by the authors.
        padding: `circular` wraps the shuffled convolutions around: zero padding still marks the borders.
        prefix: what to do with tokens that have no position (class token, registers), before each block: `keep` them;
            `mean`: their mean over the pictures of the batch; `swap`: those of another picture of the batch. See
            `ww.need.prefix`, which does that alone.
        seed: of the draws; the same seed gives the same draws.
        generator: draw from this CPU generator instead; it can be saved and restored for exact resuming. Of fixed
            draws its seed decides, not its state: a network is tested, and resumed, with what it was trained with.
        table: the network's sites, if at hand (saves one forward pass on a blank picture).

    Returns:
        A context manager; its `matched` and `ran` tell what it acts on and how often it did.

    Raises:
        InputError: for an unknown mode, scope or prefix, a selection that matches nothing, or no prefix tokens where
            they are to be changed; when the block ends, for a site that was never reached although the network ran.
    """
    _check(mode, scope)
    rng = source_of(generator, seed)

    def change(site: Site) -> Change:
        own = _of_site(rng, site.name) if "fixed" in (mode, scope) else rng
        return Shuffler(mode, own, scope=scope, block=block)

    tokens = prefix_change(prefix, rng)
    return acting(net, sites, change, when=when, shortcuts=shortcuts, padding=padding, table=table, prefix=tokens)


def source_of(generator: torch.Generator | None, seed: int) -> torch.Generator:
    """What draws come from.

    Raises:
        InputError: for anything but a generator or a whole number.
    """
    check_seed(seed)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputError(f"generator={generator!r}: give a torch.Generator on the CPU, or None.")
    return generator or torch.Generator().manual_seed(seed)


def acting(
    net: nn.Module | Network,
    sites: Selection,
    change: Callable[[Site], Change],
    *,
    when: When,
    shortcuts: bool,
    padding: Literal["keep", "circular"],
    table: Sites | None,
    prefix: Change | None = None,
) -> Intervention:
    """Act on the maps that enter the selected convolutions, and on what goes round them.

    Args:
        net: the network.
        sites: see `shuffle`.
        change: for each site, what to do with the maps there.
        when: see `shuffle`.
        shortcuts: act on what goes round, too.
        padding: see `shuffle`.
        table: see `shuffle`.
        prefix: what to do with prefix tokens; None keeps them.
    """
    module, places = as_module(net), checked_table(net, table)
    chosen = spatial_targets(places, sites)
    ways = ways_round(places.dataflow, chosen) if shortcuts and any(s.is_spatial_conv for s in chosen) else Ways()
    inputs = {s: change(s) for s in (*chosen, *ways.inputs)}
    blocks = {w.block: change(w.block) for w in ways.shortcuts}
    branches = {w.block: w.branches for w in ways.shortcuts}
    outputs = {s: change(s) for s in ways.outputs}
    prefixes = dict.fromkeys(prefixed(places, chosen), prefix) if prefix else {}
    return Intervention(
        module, inputs, blocks, outputs=outputs, branches=branches, prefixes=prefixes, when=when, padding=padding
    )


def checked_table(net: nn.Module | Network, table: Sites | None) -> Sites:
    """The network's sites, as given or looked for.

    Raises:
        InputError: if something else was given.
    """
    if table is not None and not isinstance(table, Sites):
        raise InputError(f"table={table!r}: give ww.sites(net), or None.")
    return table or list_sites(net)


def _of_site(generator: torch.Generator, name: str) -> torch.Generator:
    """A site's own source of draws, which depends on the generator's seed and the site's name alone."""
    digest = sha256(f"{generator.initial_seed()} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def spatial_targets(places: Sites, which: Selection) -> list[Site]:
    """The k x k convolutions of a selection; where there are none, the outermost selected sites themselves."""
    chosen = places.select(which)
    names = {s.module for s in chosen}
    convs = [s for s in places if s.is_spatial_conv and (s in chosen or names & set(s.parents))]
    return convs or [s for s in chosen if not names & set(s.parents)]


class Shuffler:
    """Permutes maps (N, C, H, W), drawing a permutation each time it is called.

    Args:
        mode: see `shuffle`.
        generator: source of the draws, on the CPU, so that the draws do not depend on the device.
        scope: see `shuffle`.
        block: see `shuffle`.
    """

    def __init__(
        self, mode: Mode, generator: torch.Generator, *, scope: Scope = "batch", block: tuple[int, int] = (2, 2)
    ) -> None:
        _check(mode, scope)
        self.mode, self.generator, self.block = mode, generator, block
        self.scope: Scope = "fixed" if mode == "fixed" else scope
        self._kept: dict[Shape, Tensor] = {}  # by shape: one site may see pictures of several sizes

    def __call__(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) with the same entries at other places."""
        return permute(maps, self._index(maps).to(maps.device))

    def _index(self, maps: Tensor) -> Tensor:
        n, *shape = maps.shape
        c, h, w = shape
        if self.scope == "sample":
            return torch.stack([self._draw((c, h, w)) for _ in range(n)])
        if self.scope == "fixed":
            if (c, h, w) not in self._kept:
                self._kept[c, h, w] = self._draw((c, h, w))
            return self._kept[c, h, w]
        return self._draw((c, h, w))

    def _draw(self, shape: Shape) -> Tensor:
        return draw(self.mode, shape, self.generator, block=self.block)


def draw(mode: Mode, shape: Shape, generator: torch.Generator, *, block: tuple[int, int] = (2, 2)) -> Tensor:
    """Draw one permutation of a feature map's entries.

    Args:
        mode: see `shuffle`.
        shape: (C, H, W) of the map.
        generator: source of the draw.
        block: (rows, columns) of mode `block`.

    Returns:
        (C·H·W,) int64: entry i of the shuffled map, in (C, H, W) order, is entry `index[i]` of the map.
    """
    if mode not in _DRAWS:
        raise unknown("mode", mode, _DRAWS)
    if mode == "block":
        return _within_blocks(shape, generator, block)
    return _DRAWS[mode](shape, generator)


def _entries(shape: Shape) -> Tensor:
    c, h, w = shape
    return torch.arange(c * h * w).view(c, h, w)


def _orders(rows: int, length: int, generator: torch.Generator) -> Tensor:
    """(rows, length): an independent uniform permutation in each row."""
    # Random keys with the position in their low bits: one sort of plain integers, which NumPy vectorises (five times
    # as fast as an argsort), and no two keys are equal, so that none favours the original order.
    bits = max(1, (length - 1).bit_length())
    keys = torch.randint(1 << (62 - bits), (rows, length), generator=generator, device=generator.device).cpu()
    ordered = np.sort(((keys << bits) | torch.arange(length)).numpy(), axis=1)
    return torch.from_numpy(ordered & ((1 << bits) - 1))


def _per_channel(shape: Shape, g: torch.Generator) -> Tensor:
    c, h, w = shape
    return _entries(shape).view(c, h * w).gather(1, _orders(c, h * w, g)).flatten()


def _shared(shape: Shape, g: torch.Generator) -> Tensor:
    c, h, w = shape
    return _entries(shape).view(c, h * w)[:, _orders(1, h * w, g)[0]].flatten()


def _all(shape: Shape, g: torch.Generator) -> Tensor:
    c, h, w = shape
    return _orders(1, c * h * w, g)[0]


def _channel(shape: Shape, g: torch.Generator) -> Tensor:
    return _entries(shape)[_orders(1, shape[0], g)[0]].flatten()


def _channel_per_position(shape: Shape, g: torch.Generator) -> Tensor:
    c, h, w = shape
    return _entries(shape).view(c, h * w).gather(0, _orders(h * w, c, g).t()).flatten()


def _rows(shape: Shape, g: torch.Generator) -> Tensor:
    return _entries(shape)[:, _orders(1, shape[1], g)[0]].flatten()


def _columns(shape: Shape, g: torch.Generator) -> Tensor:
    return _entries(shape)[:, :, _orders(1, shape[2], g)[0]].flatten()


def _within_blocks(shape: Shape, g: torch.Generator, block: tuple[int, int]) -> Tensor:
    if not (isinstance(block, tuple | list) and len(block) == 2 and all(isinstance(b, int) for b in block)):
        raise InputError(f"block={block!r}: give (rows, columns), two whole numbers such as (2, 2).")
    (c, h, w), (rows, columns) = shape, block
    if rows < 1 or columns < 1 or h % rows or w % columns:
        raise InputError(
            f"block={block} does not divide a map of {h} x {w}: give (rows, columns) that divide it, "
            "or select other sites."
        )
    # (C, H, W) -> (C, blocks down, blocks across, rows, columns): a block's positions become the last two axes.
    tiled = _entries(shape).view(c, h // rows, rows, w // columns, columns).transpose(2, 3)
    flat = tiled.reshape(-1, rows * columns)
    mixed = flat.gather(1, _orders(len(flat), rows * columns, g)).view(tiled.shape)
    return mixed.transpose(2, 3).reshape(-1)


_DRAWS: dict[str, Callable[..., Tensor]] = {
    "per-channel": _per_channel,
    "shared": _shared,
    "all": _all,
    "channel": _channel,
    "channel-per-position": _channel_per_position,
    "block": _within_blocks,
    "rows": _rows,
    "columns": _columns,
    "fixed": _shared,
}
MODES: tuple[str, ...] = tuple(_DRAWS)


def permute(maps: Tensor, index: Tensor) -> Tensor:
    """Move the entries of feature maps, differentiably, in whichever memory format they are.

    Args:
        maps: (N, C, H, W).
        index: (C·H·W,) one permutation for the batch, or (N, C·H·W) one per picture; see `draw`.

    Returns:
        (N, C, H, W) in the memory format of `maps`.
    """
    n, c, h, w = maps.shape
    if maps.is_contiguous() or not maps.is_contiguous(memory_format=torch.channels_last):
        flat = _Gather.apply(maps.flatten(1), index)
        return flat.view(n, c, h, w)
    # Rewriting the small index for the memory at hand saves two copies of the large maps.
    flat = _Gather.apply(maps.permute(0, 2, 3, 1).flatten(1), _for_channels_last(index, c, h * w))
    return flat.view(n, h, w, c).permute(0, 3, 1, 2)


def _for_channels_last(index: Tensor, channels: int, positions: int) -> Tensor:
    channel, position = index.div(positions, rounding_mode="floor"), index.remainder(positions)
    entry = position * channels + channel
    return entry.view(*index.shape[:-1], channels, positions).transpose(-1, -2).flatten(-2)


class _Gather(torch.autograd.Function):
    """Rows by an index; the gradient is a gather by the inverse, where autograd's own would scatter and add."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return rows.gather(1, index.expand(len(rows), -1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return grad.gather(1, index.argsort(-1).expand(len(grad), -1)), None


def _check(mode: str, scope: str) -> None:
    if mode not in _DRAWS:
        raise unknown("mode", mode, _DRAWS)
    if scope not in ("batch", "sample", "fixed"):
        raise unknown("scope", scope, ("batch", "sample", "fixed"))


def check_seed(seed: Any) -> None:
    """Refuse a seed that torch does not take.

    Raises:
        InputError: for anything but a whole number of 64 bits.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not -(2**63) <= seed < 2**63:
        raise InputError(f"seed={seed!r}: give a whole number.")
