"""GAP+FC: pool globally before a site; everything after works on one vector (Fan et al. 2020).

Source: [fan2020] and the authors' code, read for facts. Deviation: the later layers stay `Conv2d` of kernel 1 and
`BatchNorm2d` on 1 x 1 maps, which compute what `Linear` and `BatchNorm1d` compute on vectors (a test says so) and fit
into any network's wiring.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init  # no draws from the global random state

from whatwhere.errors import InputError
from whatwhere.layers import map_in, with_map
from whatwhere.network import N, as_module
from whatwhere.site import (
    POOLS,
    Selection,
    Site,
    Sites,
    blank_picture,
    evaluating,
    expected_input_size,
    list_sites,
)
from whatwhere.surgery import Edit, Replaced, as_given, count_parameters, edit, modules_that_ran, record

Init = Literal["kernel-sum", "fresh"]
M = TypeVar("M", bound=nn.Module)
ADAPTIVE = nn.modules.pooling._AdaptiveAvgPoolNd


@dataclass(frozen=True)
class CollapseReport:
    """What `collapse` did; the new module carries it as its attribute `surgery`.

    Attributes:
        site: the maps that enter this site are pooled.
        depth_share: share of the convolutions without spatial information now.
        replaced: every module put in the place of another.
        parameters: (before, after).
        flops: (before, after), of one picture, 2 per multiply-add.
    """

    site: str
    depth_share: float
    replaced: tuple[Replaced, ...]
    parameters: tuple[int, int]
    flops: tuple[int, int]

    def __str__(self) -> str:
        """A summary line, then one line for each replacement."""
        (p0, p1), (f0, f1) = self.parameters, self.flops
        head = (
            f"GAP before {self.site}: {100 * self.depth_share:.0f} % of the convolutions see one position; "
            f"parameters {p0:,} -> {p1:,}, FLOPs {f0:,} -> {f1:,}."
        )
        return "\n".join([head, *(f"  {r}" for r in self.replaced)])


def collapse(
    net: N,
    site: Selection,
    *,
    init: Init = "kernel-sum",
    seed: int = 0,
    input_size: tuple[int, int, int] | None = None,
) -> N:
    """A new, smaller network without spatial information from a site on (GAP+FC).

    >>> small = ww.need.collapse(net, site="layer4.0")        # GAP before the last stage
    >>> print(small.surgery)                             # what was replaced; parameters and FLOPs before and after

    The maps that enter the site are averaged over space. Every later k x k convolution becomes a linear map of the
    same width (a 1 x 1 convolution on a 1 x 1 map), strides become 1, and pools go; batch norms, activations and
    shortcuts stay.

    Args:
        net: the network; it is left alone.
        site: where to pool: the first site of the selection; of a depth share ("last 30%") the k x k convolution or
            residual block that it names, where the curve cuts as well. In a residual network choose the stem or a
            block (`layer4.0`): inside a block the shortcut would carry spatial information around.
        init: `kernel-sum` sums each kernel over space, which keeps what a trained network does to constant maps (and
            turns He's initialisation of a k x k convolution into He's initialisation of the linear map); `fresh`
            draws the later convolutions anew.
        seed: of `fresh`.
        input_size: (C, H, W) of one picture; None takes the network's own.

    Returns:
        What was given: a module for a module, a `Network` for a `Network`. The module's attribute `surgery` is the
        `CollapseReport`.

    Raises:
        InputError: if the selection matches nothing, if spatial information flows around the site, or if a layer
            after the site cannot work on 1 x 1 maps; the message names the place and the sites to choose.
    """
    if init not in ("kernel-sum", "fresh"):
        raise InputError(f"init={init!r}: choose 'kernel-sum' or 'fresh'.")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"seed={seed!r}: give a whole number.")
    if input_size is not None and not _is_size(input_size):
        raise InputError(f"input_size={input_size!r}: give (channels, height, width), three whole numbers above 0.")
    size = input_size or expected_input_size(net)
    before = list_sites(net, input_size=size)
    start = before.start(site)
    module, replaced = edit(net, _edits(as_module(net), before, start))
    _check_reached(module, size, [_new_name(r.name, start) for r in replaced], before, start)
    if init == "fresh":
        later = {_new_name(s.module, start) for s in before if s.order >= start.order}
        _redraw(module, sorted(later), seed)
    report = CollapseReport(
        start.name,
        start.depth_share,
        tuple(replaced),
        (count_parameters(as_module(net)), count_parameters(module)),
        (before.total_flops, list_sites(module, input_size=size).total_flops),
    )
    module.__dict__["surgery"] = report  # a plain attribute: no parameter, no module
    record(module, net, "need.collapse", site=start.name, init=init, seed=seed, input_size=size)
    return as_given(net, module, f"{getattr(net, 'name', '')} + GAP before {start.name}")


def _is_size(given: Any) -> bool:
    return isinstance(given, tuple | list) and len(given) == 3 and all(isinstance(n, int) and n > 0 for n in given)


def _new_name(name: str, start: Site) -> str:
    """A module's name after the site was wrapped in `Sequential(pool, then)`."""
    inner = name.removeprefix(start.module + ".")
    return name if inner == name else f"{start.module}.then.{inner}"


def _edits(module: nn.Module, table: Sites, start: Site) -> dict[str, Edit]:
    edits = dict(_later_edits(module, table, start))
    at_start = edits.get(start.module, _pointwise)
    return {**edits, start.module: lambda m: _pooled(at_start(m))}


def _later_edits(module: nn.Module, table: Sites, start: Site) -> Iterator[tuple[str, Edit]]:
    later = [s for s in table if s.order >= start.order]
    strange = next((s for s in later if s.layout != "NCHW"), None)
    if strange:
        raise InputError(
            f"site={start.name!r}: {strange.name} has layout {strange.layout}; collapse knows NCHW maps only."
        )
    earlier = {s.module for s in table if s.order < start.order}
    _refuse_shared(module, earlier, later)
    for s in later:
        old = module.get_submodule(s.module)
        if isinstance(old, ADAPTIVE) and s.shape and s.shape[1] * s.shape[2] > 1:
            yield from _fold_head(module, s.module, *s.shape)
        else:
            yield s.module, _beyond_maps if s.module in earlier else _pointwise
    for name, m in module.named_modules():
        if hasattr(m, "input_kernel_size"):  # timm's VGG head; on small pictures it enlarges its 1 x 1 maps
            yield name, _pointwise


def _refuse_shared(module: nn.Module, earlier: set[str], later: Sequence[Site]) -> None:
    start = later[0]
    for s in later:
        old = module.get_submodule(s.module)
        if s.module in earlier and (s.module == start.module or _is_changed(old)):
            raise InputError(
                f"site={start.name!r}: {s.module} runs both before and after it; choose a site before its first call "
                "or after its last."
            )


def _is_changed(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and not _is_pointwise(module)


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return (*conv.kernel_size, *conv.stride) == (1, 1, 1, 1) and conv.padding in ((0, 0), "valid", "same")


def _pointwise(module: nn.Module) -> nn.Module:
    """The layer's counterpart on 1 x 1 maps: convolutions summed over space, pools gone, the rest as it is."""
    if isinstance(module, nn.Conv2d):
        return module if _is_pointwise(module) else _summed(module)
    if isinstance(module, POOLS) and not isinstance(module, ADAPTIVE):
        return nn.Identity()
    if hasattr(module, "input_kernel_size"):  # timm's VGG head asks for maps of its kernel's size
        module.__dict__["input_kernel_size"] = 1
    return module


def _beyond_maps(module: nn.Module) -> nn.Module:
    """The counterpart of a layer that has maps to work on, too, in an earlier call."""
    return _PoolOfMaps(module) if isinstance(module, POOLS) and not isinstance(module, ADAPTIVE) else module


class _PoolOfMaps(nn.Module):
    """A pool that lets 1 x 1 maps pass."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the pool's output; (N, C, 1, 1) to itself."""
        return x if x.shape[-2:] == (1, 1) else self.pool(x)


def _summed(conv: nn.Conv2d) -> nn.Module:
    if type(conv).forward is not nn.Conv2d.forward and type(conv).__name__ != "Conv2dSame":
        raise InputError(
            f"collapse cannot sum the kernels of a {type(conv).__name__}: it has a forward of its own, which may not "
            "use its weights as they are. Replace it by nn.Conv2d first."
        )
    new = skip_init(
        nn.Conv2d,
        conv.in_channels,
        conv.out_channels,
        1,
        groups=conv.groups,
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    with torch.no_grad():
        new.weight.copy_(conv.weight.sum((2, 3), keepdim=True))
        if conv.bias is not None and new.bias is not None:
            new.bias.copy_(conv.bias)
    return _like(conv, new)


def _pooled(module: nn.Module) -> nn.Module:
    return Pooled(module).train(module.training)


class Pooled(nn.Sequential):
    """A module that sees means over space, however it is called.

    Args:
        module: the first one behind the pool.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), then=module))

    def forward(self, *args: Any, **options: Any) -> Any:
        """The module's output for the pooled map among its arguments."""
        pool, then = self
        args, options = with_map(args, options, pool(map_in(args, options)))
        return then(*args, **options)


def _fold_head(module: nn.Module, pool: str, c: int, h: int, w: int) -> Iterator[tuple[str, Edit]]:
    """A head that flattens a grid of equal values needs one column for each channel."""
    linears = {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear) and m.in_features == c * h * w}
    if not linears:
        raise InputError(f"no linear layer with {c * h * w} inputs follows {pool}; collapse cannot fold the head.")
    name, linear = next(iter(linears.items()))
    yield pool, lambda _: nn.AdaptiveAvgPool2d(1)
    yield name, lambda _: _folded(linear, c)


def _folded(linear: nn.Linear, channels: int) -> nn.Linear:
    """A copy for one value a channel: its columns for each channel are added."""
    new = skip_init(
        nn.Linear,
        channels,
        linear.out_features,
        bias=linear.bias is not None,
        device=linear.weight.device,
        dtype=linear.weight.dtype,
    )
    with torch.no_grad():
        new.weight.copy_(linear.weight.unflatten(1, (channels, -1)).sum(2))
        if linear.bias is not None:
            new.bias.copy_(linear.bias)
    return _like(linear, new)


def _like(old: nn.Module, new: M) -> M:
    for name, p in new.named_parameters():
        p.requires_grad_(getattr(old, name).requires_grad)
    return new.train(old.training)


def _check_reached(
    module: nn.Module, size: tuple[int, int, int], replaced: list[str], before: Sites, start: Site
) -> None:
    with evaluating(module):
        try:
            ran = modules_that_ran(module, blank_picture(module, size))
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"site={start.name!r}: a layer after it cannot work on 1 x 1 maps, or spatial information flows around "
                f"it: {error}. {_advice(before, start)}"
            ) from error
    idle = [name for name in replaced if name not in ran]
    if idle:
        raise InputError(f"site={start.name!r}: the replaced {idle[0]} did not run.")
    _refuse_leaks(module, size, before, start)


def _refuse_leaks(module: nn.Module, size: tuple[int, int, int], before: Sites, start: Site) -> None:
    late = {(s.module, s.call) for s in before if s.order > start.order and start.module not in s.parents}
    leak = next((s for s in list_sites(module, input_size=size) if (s.module, s.call) in late), None)
    if leak:
        raise InputError(
            f"site={start.name!r}: spatial information flows around it and is back at {leak.name}. "
            f"{_advice(before, start)}"
        )


def _advice(before: Sites, start: Site) -> str:
    """Sites that no shortcut bypasses: the residual blocks, or else the groups that the site is in, innermost first."""
    around = [p for p in reversed(start.parents) if p in {s.module for s in before}]
    safe = [s.name for s in before if s.kind == "block"] or around
    return f"Choose a site that no shortcut bypasses: {', '.join(safe) or 'one before it'}."


def _redraw(module: nn.Module, names: Iterable[str], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    convs = dict.fromkeys(m for n in names for m in module.get_submodule(n).modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        for conv in convs:
            drawn = torch.empty(conv.weight.shape)  # on the CPU: the same on every device
            nn.init.kaiming_normal_(drawn, mode="fan_out", nonlinearity="relu", generator=generator)
            conv.weight.copy_(drawn)
            if conv.bias is not None:
                conv.bias.zero_()
