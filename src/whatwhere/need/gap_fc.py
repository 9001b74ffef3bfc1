"""GAP+FC: pool globally before a site; everything after works on one vector (Fan et al. 2020).

Source: [fan2020] and the authors' code, read for facts. Deviation: the later layers stay `Conv2d` of kernel 1 and
`BatchNorm2d` on 1 x 1 maps, which compute what `Linear` and `BatchNorm1d` compute on vectors (a test says so) and fit
into any network's wiring. What each operator becomes follows from what it does to a constant map, in any network.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow, flow_of
from whatwhere.graph.rewrite import Rewritten
from whatwhere.graph.trace import trace
from whatwhere.need.borderless import on_constant_maps
from whatwhere.need.decided import check_collapsible
from whatwhere.need.edited import check_open, check_options, redraw
from whatwhere.need.entry import SpatialMean
from whatwhere.need.pooled import PooledGraph, constant_at, mean_at
from whatwhere.network import N, Network, as_module
from whatwhere.site import Selection, Site, Sites, evaluating, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import Replaced, as_given, copied, count_parameters, record

Size = tuple[int, int, int]
Init = Literal["kernel-sum", "fresh"]
CLOSE = 1e-4  # of the largest score, that the new network may differ from the original on a constant map


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
    move: bool = False,
    input_size: tuple[int, int, int] | None = None,
) -> N:
    """A new, smaller network without spatial information from a site on (GAP+FC).

    >>> small = ww.need.collapse(net, site="layer4.0")        # GAP before the last stage
    >>> print(small.surgery)                             # what was replaced; parameters and FLOPs before and after

    The maps that enter the site are averaged over space. Every later k x k convolution, of whatever make, becomes a
    linear map of the same width (a 1 x 1 convolution on a 1 x 1 map), strides become 1, and pools, pads and
    interpolations go, also those between modules; norms, activations, gates and shortcuts stay. A linear layer
    that reads a flattened map gets one column for each channel. The new network is a `torch.fx.GraphModule` with the
    names of the network; it is checked on a random value to do what the network does to a constant map without borders.
    Of tokens the patch tokens become one, and prefix tokens (a class token) are kept.

    Args:
        net: the network; it is left alone.
        site: where to pool: the first site of the selection; of a depth share ("last 30%") the k x k convolution or
            residual block that it names, where the curve cuts as well. Something goes round a place inside of a block:
            choose one of `ww.sites(net).cuts`.
        init: `kernel-sum` sums each kernel over space, which keeps what a trained network does to constant maps (and
            turns He's initialisation of a k x k convolution into He's initialisation of the linear map); `fresh`
            draws the later convolutions anew.
        seed: of `fresh`.
        move: where the network cannot be collapsed at the site, collapse it at the next place that works.
        input_size: (C, H, W) of one picture; None takes the network's own.

    Returns:
        What was given: a module for a module, a `Network` for a `Network`. The module's attribute `surgery` is the
        `CollapseReport`.

    Raises:
        InputError: if the selection matches nothing, if spatial information flows around the site, or if a layer
            after the site cannot work on 1 x 1 maps; the message names the place and the sites to choose.
    """
    check_options(init, seed, input_size)
    check_collapsible(net)
    size = input_size or expected_input_size(net)
    before = list_sites(net, input_size=size)
    start, built = _built(net, before, before.start(site), size, move=move)
    module = built.module
    if init == "fresh":
        redraw(module, sorted(set(built.layers)), seed)
    report = CollapseReport(
        start.name,
        start.depth_share,
        tuple(built.replaced),
        (count_parameters(as_module(net)), count_parameters(module)),
        (before.total_flops, list_sites(module, input_size=size).total_flops),
    )
    module.__dict__["surgery"] = report  # a plain attribute: no parameter, no module
    record(module, net, "need.collapse", site=start.name, init=init, seed=seed, input_size=size)
    return as_given(net, module, f"{getattr(net, 'name', '')} + GAP before {start.name}")


@dataclass(frozen=True)
class _Built:
    module: Rewritten
    replaced: list[Replaced]
    layers: list[str]  # behind the pool


def _built(net: nn.Module | Network, table: Sites, start: Site, size: Size, *, move: bool) -> tuple[Site, _Built]:
    """The network pooled at a site, or with `move` at the first place from there on that works.

    Raises:
        InputError: if it cannot be; the message names the next place that works.
    """
    original = flow_of(net, input_size=size)
    try:
        return start, _pooled_at(original, start)
    except InputError as error:
        found = _next_that_works(original, table, start)
        if found and move:
            return found
        raise InputError(
            f"site={start.name!r}: {error}. {_advice(table, start, found[0] if found else None)}"
        ) from error


def _next_that_works(original: Flow, table: Sites, start: Site) -> tuple[Site, _Built] | None:
    for cut in table.cuts:
        if cut.order > start.order:
            try:
                return cut, _pooled_at(original, cut)
            except InputError:
                continue
    return None


def _advice(table: Sites, start: Site, place: Site | None) -> str:
    if place:
        return f"The next place that works is {place.name!r}: give that, or move=True."
    before = [c.name for c in table.cuts if c.order < start.order]
    return f"No later place works; nothing goes round {', '.join(before[-3:]) or 'any place before it'}."


def _pooled_at(original: Flow, start: Site) -> _Built:
    """The network pooled at a site, seen to do what the original does to a constant map.

    Raises:
        InputError: if it cannot be, or does not.
    """
    check_open(original, start)
    built = _pooled(original, start)
    try:
        _check(original, built.module, start)
    except InputError:
        if all(p.dtype != torch.float32 for p in original.module.parameters()):
            raise
        # A deep network may make much of the rounding of its summed kernels: the same surgery in float64 decides.
        exact = flow_of(copied(original.module).double(), input_size=original.size)
        _check(exact, _pooled(exact, start).module, start)
    return built


def _pooled(original: Flow, start: Site) -> _Built:
    graph = PooledGraph(flow_of(copied(original.module), input_size=original.size), original, start)
    return _Built(graph.finished(), graph.replaced, graph.layers)


def _check(original: Flow, module: Rewritten, start: Site) -> None:
    """Two properties: nothing but the pooled value reaches the output, and it does what the original does to it.

    Raises:
        InputError: if one does not hold.
    """
    entry = original.entering(start)
    assert entry
    new = Flow(trace(module, original.size))
    pooled = next(n for n in reversed(new.nodes) if n.target == module.pooled_by)
    if pooled not in new.narrows:
        raise InputError("something goes round the pooled map")
    _check_batches(module, new)
    if start.layout.startswith("tokens") and not start.layout.endswith("+0"):
        return  # prefix tokens weigh one pooled token otherwise than many equal ones
    for value in (constant_at(original, start), mean_at(original, start)):
        with evaluating(module):
            seen = new.run({pooled: SpatialMean(start.layout)(value)}, [new.output])[new.output]
        _compare(seen, on_constant_maps(original, entry, value)[original.output])


def _check_batches(module: Rewritten, flow: Flow) -> None:
    """See that each picture of a batch is treated as it is alone: Python may have counted them.

    Raises:
        InputError: if it is not.
    """
    first, second = flow.example()[:1], flow.example()[1:]
    several = torch.cat([first, second, first])
    try:
        with evaluating(module), redirect_stderr(StringIO()):  # torch.fx prints where a graph failed
            together, alone = module(several), module(second)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        why = " ".join(str(error).split())[:160]
        raise InputError(f"its Python asks how many pictures there are, and others do not run: {why}") from error
    if isinstance(together, Tensor) and isinstance(alone, Tensor):
        rows = together[1:2] if len(together) == len(several) else together
        if rows.shape != alone.shape or not float((rows - alone).abs().max()) <= CLOSE * float(alone.abs().max()):
            raise InputError("its Python asks how many pictures there are, and does another thing to other numbers")


def _compare(seen: Any, wanted: Any) -> None:
    parts = [list(x.values()) if isinstance(x, Mapping) else x for x in (seen, wanted)]
    if all(isinstance(p, tuple | list) for p in parts) and len(parts[0]) == len(parts[1]):
        for one, other in zip(*parts, strict=True):
            _compare(one, other)
        return
    if not isinstance(seen, Tensor) or not isinstance(wanted, Tensor):
        raise InputError(f"the network gives a {type(wanted).__name__}, and a collapsed one is checked on tensors")
    wanted = _one_position(wanted, seen)
    if seen.shape != wanted.shape:
        raise InputError(f"its output would be {tuple(seen.shape)} in the place of {tuple(wanted.shape)}")
    apart = float((seen - wanted).abs().max()) / max(float(wanted.abs().max()), 1e-12)
    if not apart <= CLOSE:  # nor if it is no number
        raise InputError(f"its scores on a constant map would differ by {apart:.1e} of the largest")


def _one_position(scores: Tensor, like: Tensor) -> Tensor:
    """One position of a map of scores that is constant, flattened or not."""
    if scores.ndim == 4:
        if float((scores - scores[:, :, :1, :1]).abs().max()) > CLOSE * float(scores.abs().max()):
            raise InputError("what it gives varies over space, though the map is constant")
        return scores[:, :, :1, :1]
    positions = scores.shape[1] // like.shape[1] if scores.ndim == like.ndim == 2 else 1
    return scores.view(len(scores), -1, positions)[:, :, 0] if positions > 1 else scores
