"""Which parts of a network mix positions, found by trying: what depends on one position alone?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from whatwhere.graph.flow import Flow, Region, Step, ValueOf
from whatwhere.layers import NORMS, POOLS, kind_of
from whatwhere.maps import as_maps, from_maps
from whatwhere.site import Site, Sites, evaluating

ROUNDING = 1e-5  # of the largest value
EXACT = 1e-12  # of the largest value, in float64: what attention that is nearly even, or scaled down, differs by
OVER_SPACE = (nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)  # norms whose statistics are of the whole map


@dataclass(frozen=True)
class Cut:
    """A place that nothing goes round, before a part that learned to mix positions.

    Attributes:
        site: where the map at the place is.
        region: what follows, as far as the next place that nothing goes round.
    """

    site: Site
    region: Region


class Places:
    """The sites of a network in its dataflow.

    Args:
        flow: the network's.
        table: its sites.
    """

    def __init__(self, flow: Flow, table: Sites) -> None:
        self.flow, self.table = flow, table
        self.at: dict[fx.Node, list[Site]] = {}  # by the value that enters them, in order
        for site in table:
            node = flow.entering(site)
            if node is not None:
                self.at.setdefault(node, []).append(site)

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Where a network can be cut, first to last."""
        return tuple(self._cuts())

    def _cuts(self) -> Iterator[Cut]:
        for region in self.flow.regions:
            sites = self.at.get(region.entry)
            if sites and self.does_more_than_resample(region) and self.mixes(region):
                yield Cut(self._containing(sites, region), region)

    def _containing(self, sites: list[Site], region: Region) -> Site:
        """The innermost site that holds a whole region; the first one if none does."""
        owners = [set(self.flow.owners(n)) for n in region.inside]
        holding = [s for s in sites if all(s.module in o for o in owners)]
        return (holding or sites[:1])[-1]

    def does_more_than_resample(self, region: Region) -> bool:
        """Whether a region is more than a pool, an interpolation or a norm: it has parameters, or moves positions."""
        if any(map(self._has_parameters, region.inside)):
            return True
        entry, left = (self.flow.shapes.get(n, ()) for n in (region.entry, region.exit))
        return entry == left and not any(map(self._only_resamples, region.inside))

    def _has_parameters(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            m = self._module(node)
            return not isinstance(m, NORMS) and next(m.parameters(), None) is not None
        given = (attrgetter(str(n.target))(self.flow.module) for n in node.all_input_nodes if n.op == "get_attr")
        return any(isinstance(value, nn.Parameter) for value in given)

    def _only_resamples(self, node: fx.Node) -> bool:
        norm = node.op == "call_module" and isinstance(self._module(node), NORMS)
        return norm or self.resamples(node) or "norm" in _name(node)

    def resamples(self, node: fx.Node) -> bool:
        """Whether a node pools, interpolates or pads."""
        if node.op == "call_module":
            return isinstance(self._module(node), POOLS)
        return node.op != "get_attr" and any(part in _name(node) for part in ("pool", "interpolate", "pad"))

    def _module(self, node: fx.Node) -> nn.Module:
        return self.flow.module.get_submodule(str(node.target))

    def mixes(self, region: Region) -> bool:
        """Whether a region lets positions see each other, and more of each other than their mean.

        Everything but one position is not a number, and what is one after the region depends on that position alone.
        A gate on the pooled map (squeeze and excitation) looks at the mean only, and does not count; neither does a
        region that gives no map.
        """
        entry, like = self.at[region.entry][0], self._leaving(region)
        if like is None or all(map(self._is_pointwise, region.inside)):
            return False
        if any(map(self._is_spatial, region.inside)):  # nothing has to be tried
            return True
        if any(self._keeps(region, entry, like, p) for p in _probes(entry)):
            return False
        return not self._sees_means_only(region, entry, like)

    def _is_spatial(self, node: fx.Node) -> bool:
        """Whether a node is a plain convolution of more than one position."""
        return node.op == "call_module" and type(m := self._module(node)) is nn.Conv2d and kind_of(m) == "conv"

    def _is_pointwise(self, node: fx.Node) -> bool:
        """Whether a node is a plain layer that no position sees another through."""
        return node.op == "call_module" and kind_of(self._module(node)) in ("conv1x1", "norm", "act")

    def _keeps(self, region: Region, entry: Site, like: Site, position: tuple[int, int]) -> bool:
        """Whether something after the region depends on one position alone."""
        drawn = self._drawn(region)
        blank = torch.full_like(drawn, torch.nan)
        left = self._left(region, _with(blank, drawn, entry, position), like)
        return bool(left.isfinite().all(1).any())

    def _sees_means_only(self, region: Region, entry: Site, like: Site) -> bool:
        """Whether a position sees nothing of the others but their mean, which stays when their values change places."""
        drawn, (i, j) = self._drawn(region), _probes(entry)[1]
        pair = (drawn, _others_moved(drawn, entry, (i, j)))
        a, b = (self._left(region, x, like) for x in pair)
        if a.shape[2:] != as_maps(drawn, entry).shape[2:]:
            return False
        if not _equal_at(a, b, i, j, ROUNDING):
            return False
        # A new transformer's attention is nearly even, and a layer scale may begin at 1e-6: float32 cannot tell.
        with suppress(RuntimeError, TypeError):  # operators that are not for float64, or mix it with another type
            a, b = (self._left(region, x.double(), like, self._precise) for x in pair)
            return _equal_at(a, b, i, j, EXACT)
        return True

    def _left(self, region: Region, given: Tensor, like: Site, step: Step | None = None) -> Tensor:
        with evaluating(self.flow.module):
            left = self.flow.run({region.entry: given}, [region.exit], step or self._step)
        return as_maps(left[region.exit], like)

    def _drawn(self, region: Region) -> Tensor:
        weight = next(self.flow.module.parameters(), torch.empty(0))
        return torch.rand(self.flow.shapes[region.entry], generator=torch.Generator().manual_seed(0)).to(weight)

    def _step(self, node: fx.Node, value_of: ValueOf) -> Any:
        if node.op == "call_module" and isinstance(self._module(node), OVER_SPACE):
            return fx.node.map_arg(node.args, value_of)[0]
        return self.flow.step(node, value_of)

    def _precise(self, node: fx.Node, value_of: ValueOf) -> Any:
        """The same in float64, whatever the weights and constants are."""

        def given(n: fx.Node) -> Any:
            return _in_float64(value_of(n))

        if node.op != "call_module" or isinstance(self._module(node), OVER_SPACE):
            return self._step(node, given)
        m = self._module(node)
        held = {name: _in_float64(t) for name, t in (*m.named_parameters(), *m.named_buffers())}
        args: Any = fx.node.map_arg(node.args, given)
        kwargs: Any = fx.node.map_arg(node.kwargs, given)
        return torch.func.functional_call(m, held, args, kwargs)

    def _leaving(self, region: Region) -> Site | None:
        """A site whose map is laid out like what leaves a region; None if that is no map."""
        if region.exit in self.at:
            return self.at[region.exit][0]
        entry, left = self.at[region.entry][0], self.flow.shapes.get(region.exit, ())
        if left == self.flow.shapes[region.entry]:
            return entry  # a block of Swin, whose next layer sees its map as tokens
        return entry if entry.layout == "NCHW" and len(left) == 4 and left[2] * left[3] > 1 else None


def _equal_at(a: Tensor, b: Tensor, i: int, j: int, share: float) -> bool:
    """Whether two maps are equal at a position, up to a share of the largest value there."""
    a, b = a[:, :, i, j], b[:, :, i, j]
    return float((a - b).abs().max()) <= share * float(a.abs().max())


def _in_float64(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)) if node.op != "call_module" else ""


def _with(x: Tensor, other: Tensor, site: Site, position: tuple[int, int]) -> Tensor:
    """A tensor that enters a site, with one position of another."""
    i, j = position
    maps = as_maps(x, site).clone()
    maps[:, :, i, j] = as_maps(other, site)[:, :, i, j]
    return from_maps(maps, x, site)


def _others_moved(x: Tensor, site: Site, position: tuple[int, int]) -> Tensor:
    """A tensor that enters a site, with all values but those at one position elsewhere in their channel."""
    maps = as_maps(x, site)
    _, c, h, w = maps.shape
    fixed = position[0] * w + position[1]
    keys = torch.rand(c, h * w, generator=torch.Generator().manual_seed(1))
    others = torch.cat([torch.arange(fixed), torch.arange(fixed + 1, h * w)])
    order = others[keys[:, others].argsort(1)]
    order = torch.cat([order[:, :fixed], torch.full((c, 1), fixed), order[:, fixed:]], 1).to(x.device)
    return from_maps(maps.flatten(2).gather(2, order.expand(len(x), -1, -1)).unflatten(2, (h, w)), x, site)


def _probes(site: Site) -> list[tuple[int, int]]:
    """A corner, and the middle: a stride of 1, 2 or 4 takes both."""
    _, h, w = site.shape_in
    return [(0, 0), (h // 2 // 4 * 4, w // 2 // 4 * 4)]
