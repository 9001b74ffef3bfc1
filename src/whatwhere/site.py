"""Sites: every place where a spatial map flows, in the order of a network's execution."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import torch
from torch import Tensor, nn

from whatwhere.depth import cut_named, from_share, share_of
from whatwhere.errors import InputError, unknown
from whatwhere.layers import POOLS as POOLS
from whatwhere.network import Network, as_module, channels_of

# While a network is traced, interventions hold still: the table of places does not depend on them, nor spend draws.
tracing: ContextVar[bool] = ContextVar("tracing", default=False)

HEAD = ("#", "site", "kind", "layout", "in (C,H,W)", "out (C,H,W)", "depth share")  # of the table, as text and as HTML


@dataclass(frozen=True)
class Site:
    """One place: a call of a module whose input is a spatial feature map.

    Attributes:
        name: dotted module name, with `#call` when the module runs more than once (`layer1.0.relu#2`).
        module: dotted module name.
        call: which of the module's calls in one forward pass, from 1.
        order: position among all sites, by when the call begins.
        kind: conv, conv1x1, norm, act, pool, linear, block (residual), group (other non-leaf), other.
        layout: of the input: NCHW, NHWC, or tokens+K (K prefix tokens before H·W positions).
        shape_in: (C, H, W) of the input map.
        shape: (C, H, W) of the output map; None when the output is not a map.
        depth_share: share of the network's convolutions that begin at or after this call (the paper's "last 30 %"), in
            [0, 1]; attention counts like a convolution where there are both. In a network with at most one convolution
            (a ViT), of its linear layers.
        flops_before: floating-point operations (2 per multiply-add) of one picture before this call.
        parents: the non-leaf sites this call is inside of, outermost first.
    """

    name: str
    module: str
    call: int
    order: int
    kind: str
    layout: str
    shape_in: tuple[int, int, int]
    shape: tuple[int, int, int] | None
    depth_share: float
    flops_before: int
    parents: tuple[str, ...] = ()

    @property
    def is_spatial_conv(self) -> bool:
        """Whether this is a convolution that looks at more than one position."""
        return self.kind == "conv"


Where = str | int | float | nn.Module | Site | Callable[[Site], bool]
Selection = Where | Sequence[Where] | None


class Sites(Sequence[Site]):
    """The table of places of one network, in execution order.

    >>> table = ww.sites(net)
    >>> print(table)                          # the table
    >>> table.select("layer4*")               # by name or glob
    >>> table.select("layer3.0:")             # that site and all after it; "a:b" is a window
    >>> table.select("last 30%")              # from the cut of that depth share on, rounded down as the paper does
    """

    def __init__(
        self,
        sites: Iterable[Site],
        module: nn.Module,
        total_flops: int,
        *,
        input_size: tuple[int, int, int] = (3, 224, 224),
        follow: Callable[[Sites], Any] | None = None,
        whole: Sites | None = None,
    ) -> None:
        self._sites = tuple(sites)
        self._module = module
        self.total_flops, self.input_size = total_flops, input_size
        self._follow = follow
        self._whole: Sites = whole or self  # of which these are some

    @overload
    def __getitem__(self, index: int) -> Site: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Site]: ...
    def __getitem__(self, index: int | slice) -> Site | Sequence[Site]:
        """The site at a place of the table."""
        return self._sites[index]

    def __len__(self) -> int:
        """How many sites there are."""
        return len(self._sites)

    def of_kind(self, *kinds: str) -> Sites:
        """The sites of some kinds only, in the same order."""
        return Sites(
            (s for s in self if s.kind in kinds),
            self._module,
            self.total_flops,
            input_size=self.input_size,
            whole=self._whole,
        )

    @cached_property
    def dataflow(self) -> Any:
        """The network's dataflow (`graph.mixing.Places`), followed when it is first asked for.

        Raises:
            InputError: if it cannot be followed.
        """
        if self._whole is not self:
            return self._whole.dataflow
        if self._follow is None:
            raise InputError("this table is of no network; take that of list_sites(net).")
        return self._follow(self)

    @property
    def cuts(self) -> tuple[Site, ...]:
        """Where the network can be cut, first to last: before each part that mixes positions, if nothing goes round it.

        These are k x k convolutions outside of any branches, residual and dense blocks, a transformer's blocks. Found
        from the network's dataflow.

        Raises:
            InputError: if that cannot be followed.
        """
        return tuple(c.site for c in self.dataflow.cuts)

    def select(self, which: Selection) -> list[Site]:
        """The sites that a selection names, in execution order, without repeats.

        Args:
            which: None (all), a name, a glob, a range `"from:"` or `"from:to"`, `"last 30%"` or the share as a float
                (from the cut of that depth share on), a row number, a module, a site, a predicate, or a sequence.

        Raises:
            InputError: when a part of the selection matches nothing; the message prints the choices.
        """
        if which is None:
            return list(self)
        parts = which if isinstance(which, Sequence) and not isinstance(which, str | nn.Module) else [which]
        if not parts:
            raise InputError("the selection of sites is empty; give at least one, or None for all.")
        chosen = {site.order for part in parts for site in self._matches(part)}
        return [s for s in self if s.order in chosen]

    def start(self, which: Selection) -> Site:
        """Where a selection begins: of a depth share the cut that it names, else its first site."""
        named = cut_named(self._whole.cuts, which) if share_of(which) else None
        return named or self.select(which)[0]

    def _matches(self, part: Any) -> list[Site]:
        found = _by_type(part)(self, part)
        if not found:
            share = re.fullmatch(r"last\D*(\d+).*", str(part))  # near enough to "last 30%" to be told how it is written
            instead = {str(part): [f"last {share[1]}%"]} if share else {}
            raise unknown("sites", str(part), [s.name for s in self], instead=instead)
        return found

    def _named(self, text: str) -> list[Site]:
        if exact := [s for s in self if text in (s.name, s.module)]:
            return exact  # also a name with brackets or colons in it
        if text.startswith("last "):
            return from_share(self, self._whole.cuts, text)
        if ":" in text:
            return self._window(text)
        matched = [s for s in self if fnmatch.fnmatchcase(s.name, text) or fnmatch.fnmatchcase(s.module, text)]
        return matched or self._inside(text)

    def _inside(self, text: str) -> list[Site]:
        """The sites in a module that is never called itself: a list of blocks, or a block of a rewritten network."""
        return [s for s in self if s.module.startswith(f"{text}.")]

    def _window(self, text: str) -> list[Site]:
        start, _, end = text.partition(":")
        first = self._matches(start)[0].order if start else 0
        after = [s for s in self if s.order >= first]
        if not end:
            return after
        last = self._matches(end)[-1].order
        # A window that ends at a block takes in the block's own parts.
        return [s for s in after if s.order <= last or end in s.parents]

    def _modules(self, target: nn.Module) -> list[Site]:
        names = {n for n, m in self._module.named_modules() if m is target}
        return [s for s in self if s.module in names]

    def __repr__(self) -> str:
        """One line; `print` shows the table."""
        return f"<{type(self).__name__}, {len(self)} rows>"

    def __str__(self) -> str:
        """The table, aligned, one line a site."""
        return format_table(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the first rows of the table."""
        from whatwhere.report.notebook import as_html

        channels, height, width = self.input_size
        line = f"{len(self)} sites, of an input of {channels} x {height} x {width}."
        return as_html([line], [dict(zip(HEAD, _row(s), strict=True)) for s in self], whole="print(...)")


def _by_type(part: Any) -> Callable[[Sites, Any], list[Site]]:
    if isinstance(part, str):
        return lambda sites, text: sites._named(text)
    if isinstance(part, bool):
        raise InputError(f"sites={part!r}: give a name, a glob, a row number, a depth share, a module or a predicate.")
    if isinstance(part, int):
        return lambda sites, row: list(sites[row : row + 1 or None])
    if isinstance(part, float):
        return lambda sites, share: from_share(sites, sites._whole.cuts, share)
    if isinstance(part, nn.Module):
        return lambda sites, module: sites._modules(module)
    if isinstance(part, Site):
        return lambda sites, site: [s for s in sites if s.name == site.name]
    if callable(part):
        return lambda sites, accepts: [s for s in sites if accepts(s)]
    raise InputError(f"sites={part!r}: give a name, a glob, a row number, a depth share, a module or a predicate.")


def expected_input_size(net: nn.Module | Network) -> tuple[int, int, int]:
    """The (C, H, W) that a network declares, else its first convolution's channels at 224 x 224."""
    if isinstance(net, Network) and net.input_size:
        return net.input_size
    module = as_module(net)
    config = getattr(module, "pretrained_cfg", None) or {}
    # timm's configuration is that of its weights; a network made with in_chans=1 takes other pictures.
    return (channels_of(module), *(config.get("input_size") or (3, 224, 224))[1:])


def blank_picture(module: nn.Module, size: tuple[int, int, int]) -> Tensor:
    """One picture of zeros, (1, C, H, W), on the device and in the precision of the module."""
    weight = next(module.parameters(), torch.empty(0))
    return torch.zeros(1, *size, device=weight.device, dtype=weight.dtype)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; training flags and the global random state are put back after."""
    flags = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(module)):
            yield
    finally:
        for m, training in flags.items():
            m.training = training


def _cuda_devices(module: nn.Module) -> list[int]:
    devices = {p.device for p in module.parameters()}
    return [d.index or 0 for d in devices if d.type == "cuda"]


def format_table(sites: Iterable[Site]) -> str:
    """The sites as aligned plain text."""
    rows = [HEAD, *(_row(s) for s in sites)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def _row(s: Site) -> tuple[str, ...]:
    before, after = ("x".join(map(str, shape)) if shape else "-" for shape in (s.shape_in, s.shape))
    return (str(s.order), s.name, s.kind, s.layout, before, after, f"{100 * s.depth_share:.0f} %")
