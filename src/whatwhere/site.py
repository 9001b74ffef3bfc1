"""Sites: every place where a spatial map flows, in the order of a network's execution."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor, nn

from whatwhere.depth import cut_named, from_share
from whatwhere.errors import InputError, unknown
from whatwhere.layers import CHANNELS_FIRST_LEAVES, certain_layout, chw, kind_of, leaf_flops, map_in
from whatwhere.layers import POOLS as POOLS
from whatwhere.network import Network, as_module, channels_of, check_finite, running

# While a network is traced, interventions hold still: the table of places does not depend on them, nor spend draws.
tracing: ContextVar[bool] = ContextVar("tracing", default=False)


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
        depth_share: share of the network's convolutions that begin at or after this call (the paper's
            "last 30 %"), in [0, 1]. In a network with at most one convolution (a ViT), of its linear layers.
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

    def __init__(self, sites: Iterable[Site], module: nn.Module, total_flops: int, whole: Any = None) -> None:
        self._sites = tuple(sites)
        self._module = module
        self.total_flops = total_flops
        self._whole: tuple[Site, ...] = whole or self._sites  # of which these are some

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
        return Sites((s for s in self if s.kind in kinds), self._module, self.total_flops, self._whole)

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
        return cut_named(self._whole, which) or self.select(which)[0]

    def _matches(self, part: Any) -> list[Site]:
        found = _by_type(part)(self, part)
        if not found:
            raise unknown("sites", str(part), [s.name for s in self])
        return found

    def _named(self, text: str) -> list[Site]:
        if exact := [s for s in self if text in (s.name, s.module)]:
            return exact  # also a name with brackets or colons in it
        if text.startswith("last "):
            return from_share(self, self._whole, text)
        if ":" in text:
            return self._window(text)
        return [s for s in self if fnmatch.fnmatchcase(s.name, text) or fnmatch.fnmatchcase(s.module, text)]

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

    def __str__(self) -> str:
        """The table, aligned, one line a site."""
        return format_table(self)


def _by_type(part: Any) -> Callable[[Sites, Any], list[Site]]:
    if isinstance(part, str):
        return lambda sites, text: sites._named(text)
    if isinstance(part, bool):
        raise InputError(f"sites={part!r}: give a name, a glob, a row number, a depth share, a module or a predicate.")
    if isinstance(part, int):
        return lambda sites, row: list(sites[row : row + 1 or None])
    if isinstance(part, float):
        return lambda sites, share: from_share(sites, sites._whole, share)
    if isinstance(part, nn.Module):
        return lambda sites, module: sites._modules(module)
    if isinstance(part, Site):
        return lambda sites, site: [s for s in sites if s.name == site.name]
    if callable(part):
        return lambda sites, accepts: [s for s in sites if accepts(s)]
    raise InputError(f"sites={part!r}: give a name, a glob, a row number, a depth share, a module or a predicate.")


def list_sites(net: nn.Module | Network, *, input_size: tuple[int, int, int] | None = None) -> Sites:
    """Every place where a spatial map flows through a network, found by running it once on one blank picture.

    The network is not changed: hooks are removed, training flags and the random state are put back.

    Args:
        net: a module from pictures to scores, or a `Network`.
        input_size: (C, H, W) of one input; None takes the network's own, or 224 x 224.

    Returns:
        The sites in execution order. Sites whose map has a single position are left out: no *where* is there.

    Raises:
        InputError: if the network does not run on such an input, has no spatial map or no finite weights.
    """
    module = as_module(net)
    check_finite(module)
    size = input_size or expected_input_size(net)
    trace = _Trace(module, square=size[1] == size[2])
    with trace.hooked(), evaluating(module), running(module, size):
        module(blank_picture(module, size))
    return trace.sites()


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


@dataclass
class _Entry:
    name: str
    call: int
    kind: str
    layout: str | None
    shape_in: tuple[int, int, int] | None
    raw: tuple[int, ...]  # the input's axes but the first
    sure: bool  # of the layout
    convs_before: int
    linears_before: int
    flops_before: int
    parents: tuple[str, ...]
    shape: tuple[int, int, int] | None = None


class _Trace:
    """Hooks that write down every module call of one forward pass."""

    def __init__(self, module: nn.Module, *, square: bool) -> None:
        self.module = module
        # Where both layouts occur (with layer norms), the shape of a square picture's map decides.
        self.shape_tells = square and any(isinstance(m, nn.LayerNorm) for m in module.modules())
        self.entries: list[_Entry] = []
        self.open: list[_Entry] = []
        self.calls: Counter[str] = Counter()
        self.convs = self.linears = 0
        self.grid: tuple[int, int] | None = None
        self.layout = "NCHW"  # of the last map whose layout was certain
        self.flops = 0

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles: list[Any] = []
        token = tracing.set(True)
        try:
            for name, m in self.module.named_modules():
                if name:
                    handles.append(m.register_forward_pre_hook(self._enter(name), with_kwargs=True))
                    handles.append(m.register_forward_hook(self._leave, always_call=False))
            yield
        finally:
            tracing.reset(token)
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.calls[name] += 1
            x = map_in(args, kwargs)
            layout, shape = self._map_of(m, x)
            raw = tuple(x.shape[1:]) if x is not None else ()
            certain = certain_layout(m)
            if certain and certain == layout:
                self._learn(raw, certain)
            entry = _Entry(
                name,
                self.calls[name],
                kind_of(m),
                layout,
                shape,
                raw,
                bool(certain),
                self.convs,
                self.linears,
                self.flops,
                tuple(e.name for e in self.open),
            )
            self.entries.append(entry)
            self.open.append(entry)

        return hook

    def _leave(self, m: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        entry = self.open.pop()
        out = output if isinstance(output, Tensor) else None
        if entry.layout and out is not None and tuple(out.shape[1:]) == entry.raw:  # the same axes mean the same,
            entry.shape = entry.shape_in  # whatever linear layers of a gate inside were
            self.layout = entry.layout if out.ndim == 4 else self.layout
        else:
            _, entry.shape = self._map_of(m, out)
        self.convs += isinstance(m, nn.Conv2d)
        self.linears += isinstance(m, nn.Linear)
        self.flops += leaf_flops(m, out)
        if out is not None and out.ndim == 4 and not self._in_attention():
            self.grid = entry.shape[1:] if entry.shape else None

    def _map_of(self, m: nn.Module, x: Tensor | None) -> tuple[str | None, tuple[int, int, int] | None]:
        """Layout and (C, H, W) of a tensor that is a spatial map; (None, None) for any other."""
        if x is None or x.ndim not in (3, 4):
            return None, None
        if x.ndim == 4:
            if self._in_attention() and not isinstance(m, CHANNELS_FIRST_LEAVES):
                return None, None
            layout = certain_layout(m) or self._likely_layout(x.shape)
            shape = chw(x.shape[1:], layout)
            return (layout, shape) if shape[1] * shape[2] > 1 else (None, None)
        if self.grid is None or not 0 <= (prefix := x.shape[1] - self.grid[0] * self.grid[1]) <= 8:
            return None, None
        return f"tokens+{prefix}", (x.shape[2], *self.grid)

    def _likely_layout(self, shape: Sequence[int]) -> str:
        _, a, b, c = shape
        if self.shape_tells and (a == b) != (b == c):
            return "NHWC" if a == b else "NCHW"
        return self.layout

    def _learn(self, raw: tuple[int, ...], layout: str) -> None:
        """A leaf knows its layout, so the groups it is in, if their input has the same shape, have it too."""
        self.layout = layout
        for e in self.open:
            if e.raw == raw and e.layout and not e.sure:
                e.layout, e.shape_in, e.sure = layout, chw(raw, layout), True

    def _in_attention(self) -> bool:
        """Inside attention, four axes are (N, heads, queries, keys): no map."""
        return any("attn" in e.name.rpartition(".")[2] for e in self.open)

    def sites(self) -> Sites:
        spatial = [e for e in self.entries if e.layout]
        if not spatial:
            raise InputError("no spatial feature map flows through the modules of this network.")
        return Sites((self._site(i, e) for i, e in enumerate(spatial)), self.module, self.flops)

    def _site(self, order: int, e: _Entry) -> Site:
        name = f"{e.name}#{e.call}" if self.calls[e.name] > 1 else e.name
        total, before = (self.convs, e.convs_before) if self.convs > 1 else (self.linears, e.linears_before)
        assert e.layout
        assert e.shape_in
        return Site(
            name=name,
            module=e.name,
            call=e.call,
            order=order,
            kind=e.kind,
            layout=e.layout,
            shape_in=e.shape_in,
            shape=e.shape,
            depth_share=(total - before) / max(total, 1),
            flops_before=e.flops_before,
            parents=e.parents,
        )


def format_table(sites: Iterable[Site]) -> str:
    """The sites as aligned plain text."""
    head = ("#", "site", "kind", "layout", "in (C,H,W)", "out (C,H,W)", "depth share")
    rows = [head, *(_row(s) for s in sites)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def _row(s: Site) -> tuple[str, ...]:
    before, after = ("x".join(map(str, shape)) if shape else "-" for shape in (s.shape_in, s.shape))
    return (str(s.order), s.name, s.kind, s.layout, before, after, f"{100 * s.depth_share:.0f} %")


sites = list_sites  # the public name
