"""Pointwise: from a site on every k x k convolution becomes a 1 x 1 one, which no position sees another through.

Source: [fan2020]'s code, read for facts: 3 x 3 convolutions become 1 x 1 ones, which keeps the resolution; or these
with a local 3 x 3 average or max pool. Which comes first is not among the facts. Here the pool stands before the
convolution and its stride, on the map that the convolution reads, as the paper's shuffle does: the window that is
pooled is the one a 3 x 3 convolution would see. (For an average the order matters at a stride alone.) Another decision:
a kernel of any size is summed, and the pool is 3 x 3 whatever the kernel was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, fx, nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow, flow_of
from whatwhere.graph.mixing import Places
from whatwhere.graph.rewrite import Rewritten, called_parts, rewritten
from whatwhere.graph.trace import execute
from whatwhere.need.edited import (
    EditedGraph,
    check_open,
    check_options,
    free,
    is_map,
    modules_after,
    place,
    places_near,
    redraw,
)
from whatwhere.need.mixers import mixers, named
from whatwhere.need.on_vectors import like, summed_as
from whatwhere.need.pooled import weights_used
from whatwhere.need.windows import Window, convolves_only, window_in, window_of
from whatwhere.network import N, as_module
from whatwhere.site import Selection, Site, Sites, evaluating, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import Replaced, as_given, copied, count_parameters, describe, put, record

Init = Literal["kernel-sum", "fresh"]
Local = Literal["average", "max"]
LOCALS = ("average", "max")


@dataclass(frozen=True)
class PointwiseReport:
    """What `pointwise` did; the new module carries it as its attribute `surgery`.

    Attributes:
        site: from the map that enters this site on.
        depth_share: share of the convolutions that come after it.
        local: the pool before each 1 x 1 convolution, if there is one.
        replaced: every convolution put in the place of another.
        mixing: what still lets positions see each other behind the site, besides these pools.
        parameters: (before, after).
        flops: (before, after), of one picture, 2 per multiply-add.
    """

    site: str
    depth_share: float
    local: Local | None
    replaced: tuple[Replaced, ...]
    mixing: tuple[str, ...]
    parameters: tuple[int, int]
    flops: tuple[int, int]

    def __str__(self) -> str:
        """A summary line, one line for each replacement, and what still mixes positions."""
        (p0, p1), (f0, f1) = self.parameters, self.flops
        pools = f", each after a 3 x 3 {self.local} pool" if self.local else ""
        head = (
            f"1 x 1 convolutions from {self.site} on (the last {100 * self.depth_share:.0f} % of the convolutions)"
            f"{pools}; parameters {p0:,} -> {p1:,}, FLOPs {f0:,} -> {f1:,}."
        )
        return "\n".join([head, *(f"  {r}" for r in self.replaced), self._left()])

    def _left(self) -> str:
        besides = "Besides these pools, " if self.local else "From there on "
        if not self.mixing:
            return f"{besides}no position sees another."
        return f"{besides}positions still see each other through {'; '.join(self.mixing)}."


def pointwise(
    net: N,
    site: Selection,
    *,
    local: Local | None = None,
    init: Init = "kernel-sum",
    seed: int = 0,
    input_size: tuple[int, int, int] | None = None,
) -> N:
    """A new network whose convolutions look at one position each from a site on; its maps keep their sizes.

    >>> flat = ww.need.pointwise(net, site="layer4.0")   # 1 x 1 convolutions in the last stage
    >>> print(flat.surgery)                              # what was replaced, and what still mixes positions

    Every later k x k convolution, of whatever make (grouped, depthwise, dilated, weight-standardised, `Conv2dSame`,
    `F.conv2d`), becomes a 1 x 1 convolution of the same stride that reads the middle of each window, so that every map
    has the size it had; without padding the map is cropped for that. All else stays: norms, activations, shortcuts,
    and what else lets positions see each other (pools, attention, interpolation), which the report names. The new
    network is a `torch.fx.GraphModule` with the names of the network.

    Args:
        net: the network; it is left alone.
        site: from where on: the first site of the selection; of a depth share ("last 30%") the k x k convolution or
            residual block that it names. Something goes round a place inside of a block: choose one of
            `ww.sites(net).cuts`.
        local: a 3 x 3 pool, `average` or `max`, of stride 1 before each of the new convolutions: positions see their
            neighbours, and not where these are. An average leaves out what lies beyond the border.
        init: `kernel-sum` sums each kernel over space, which keeps what a trained network does to constant maps (and
            He's initialisation); `fresh` draws the later convolutions anew. Where a map has one position at this size,
            the one weight that sees it is taken: the others never saw anything.
        seed: of `fresh`.
        input_size: (C, H, W) of one picture; None takes the network's own.

    Returns:
        What was given: a module for a module, a `Network` for a `Network`. The module's attribute `surgery` is the
        `PointwiseReport`.

    Raises:
        InputError: if the selection matches nothing, if spatial information flows around the site, if no k x k
            convolution follows it, or if one cannot be replaced; the message names the place.
    """
    if local is not None and local not in LOCALS:
        raise InputError(f"local={local!r}: choose 'average' or 'max', or None for no pool.")
    check_options(init, seed, input_size)
    size = input_size or expected_input_size(net)
    before = list_sites(net, input_size=size)
    start = before.start(site)
    graph, module = _built(net, before, start, size, local)
    if init == "fresh":
        redraw(module, sorted(set(modules_after(graph.flow.graph, graph.entry))), seed)
    report = PointwiseReport(
        start.name,
        start.depth_share,
        local,
        tuple(graph.replaced),
        graph.still_mixing(before),
        (count_parameters(as_module(net)), count_parameters(module)),
        (before.total_flops, list_sites(module, input_size=size).total_flops),
    )
    module.__dict__["surgery"] = report  # a plain attribute: no parameter, no module
    record(module, net, "need.pointwise", site=start.name, local=local, init=init, seed=seed, input_size=size)
    after = f" after {local} pools" if local else ""
    return as_given(net, module, f"{getattr(net, 'name', '')} + 1 x 1{after} from {start.name}")


def _built(
    net: Any, table: Sites, start: Site, size: tuple[int, int, int], local: Local | None
) -> tuple[PointwiseGraph, Rewritten]:
    original = flow_of(net, input_size=size)
    try:
        check_open(original, start)
        graph = PointwiseGraph(flow_of(copied(original.module), input_size=size), original, start, local)
        return graph, graph.finished()
    except InputError as error:
        raise InputError(f"site={start.name!r}: {error}. {places_near(table, start)}") from error


class PointwiseGraph(EditedGraph):
    """Puts a 1 x 1 convolution in the place of every k x k one behind a site.

    Args:
        flow: of a copy of the network, whose modules are replaced.
        original: of the network itself.
        start: the site; nothing goes round it.
        local: the pool before each.

    Raises:
        InputError: if a convolution cannot be replaced, or there is none.
    """

    def __init__(self, flow: Flow, original: Flow, start: Site, local: Local | None) -> None:
        super().__init__(flow, original, start)
        self.local = local
        self.instead: dict[str, nn.Sequential] = {}  # by the node of the original, what does its work, without pools
        self._before: dict[Any, list[str]] = {}  # by convolution, the modules that are called before it
        for node in [n for n in flow.nodes if n in self.later]:
            self._rewrite(node)
        if not self.instead:
            raise InputError("no k x k convolution follows it")

    def _rewrite(self, node: fx.Node) -> None:
        if node.op == "call_module":
            if isinstance(m := self.flow.module.get_submodule(str(node.target)), nn.Conv2d):
                self._replace(node, m)
        elif node.op == "call_function" and getattr(node.target, "__name__", "") in ("conv2d", "_conv2d"):
            self._replace_operator(node)

    def _replace(self, node: fx.Node, conv: nn.Conv2d) -> None:
        name = str(node.target)
        if name in self._before:  # another call of one that is replaced
            self.instead[node.name] = self._work_of(name, conv)
            self._put_before(node)
        elif max(conv.kernel_size) > 1:
            self.refuse_shared(node)
            self._put_module(node, conv)

    def _put_module(self, node: fx.Node, conv: nn.Conv2d) -> None:
        window, name = window_of(conv), str(node.target)
        weight, bias = weights_used(conv)
        kernel = self._read(node, weight, window)
        new = like(conv, summed_as(nn.Conv2d, kernel, bias, conv.groups, window.stride))
        if type(conv).forward is not nn.Conv2d.forward and not convolves_only(conv, weight, bias):
            raise InputError(f"{name}, a {type(conv).__name__}, does more than convolve its map")
        self._add(node, name, window, describe(conv), new)
        put(self.flow.module, name, new)
        self._put_before(node)

    def _replace_operator(self, node: fx.Node) -> None:
        given = self.convolution_of(node)
        weight = given["weight"]
        if weight.shape[2:].numel() == 1:
            return
        window, name = window_in(given), f"pointwise_{node.name}"
        kernel, groups = self._read(node, weight, window), int(given.get("groups", 1))
        new = summed_as(nn.Conv2d, kernel, given.get("bias"), groups, window.stride)
        self.flow.module.add_module(name, new.train(self.flow.module.training))
        with self.flow.graph.inserting_before(node):
            call = self.flow.graph.call_module(name, (given["input"],))
        self._add(node, name, window, f"conv2d{tuple(weight.shape)}", new)
        self._put_before(call)
        node.replace_all_uses_with(call)
        self.flow.graph.erase_node(node)

    def _read(self, node: fx.Node, weight: Tensor, window: Window) -> Tensor:
        """The weights that are summed: all, but for a map of one position those that see it."""
        left = self.flow.shapes[node]
        if is_map(self.flow.shapes[self.flow.sources[node][0]]) or is_map(left) or not window.keeps_one:
            return weight
        row, column = ((k - 1) // 2 for k in weight.shape[2:])
        return weight[:, :, row : row + 1, column : column + 1]

    def _add(self, node: fx.Node, name: str, window: Window, before: str, new: nn.Conv2d) -> None:
        """Note a replacement, and add the modules that are called before it."""
        pool = [_pool(self.local)] if self.local else []
        parts = {"local": pool, "middle": window.middles()}
        names = []
        for kind, modules in parts.items():
            for m in modules:
                names.append(free(self.flow.module, f"{kind}_{name.replace('.', '_')}"))
                self.flow.module.add_module(names[-1], m.train(self.flow.module.training))
        self._before[name] = names
        self.replaced.append(Replaced(place(self.flow, node), before, describe(new)))
        self.instead[node.name] = nn.Sequential(*parts["middle"], new)

    def _work_of(self, name: str, conv: nn.Conv2d) -> nn.Sequential:
        parts = [self.flow.module.get_submodule(n) for n in self._before[name]]
        return nn.Sequential(*parts[1 if self.local else 0 :], conv)

    def _put_before(self, call: fx.Node) -> None:
        source: Any = call.args[0] if call.args else next(iter(call.kwargs.values()))
        with self.flow.graph.inserting_before(call):
            for name in self._before[str(call.target)]:
                source = self.flow.graph.call_module(name, (source,))
        call.args, call.kwargs = (source,), {}

    def finished(self) -> Rewritten:
        """The network, every map of which has the size that it had.

        Raises:
            InputError: if one has not.
        """
        self.keep_to_size("rewritten", "operate on it again")
        self.erase_unread()
        self._check_sizes()
        return rewritten(called_parts(self.flow.module, self.flow.graph), self.flow.graph)

    def _check_sizes(self) -> None:
        values: dict[fx.Node, Any] = {}
        with evaluating(self.flow.module):
            for node in self.flow.graph.nodes:
                values[node] = self._value(node, values)
                was = self.original.shapes.get(self.original.named.get(node.name, node))
                if was and isinstance(now := values[node], Tensor) and tuple(now.shape) != was:
                    raise InputError(f"{place(self.flow, node)} would give {tuple(now.shape)} in the place of {was}")

    def _value(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        if node.op == "placeholder":
            return self.flow.example() if node is self.flow.picture else self.flow.known(node)
        return execute(self.flow.module, node, values.__getitem__)

    def still_mixing(self, table: Sites) -> tuple[str, ...]:
        """What lets positions see each other behind the site, besides local pools, by name."""
        original = self.original
        entry = original.entering(self.start)
        assert entry
        instead = {original.named[name]: work for name, work in self.instead.items()}
        return named(original, mixers(Places(original, table), entry, instead))


def _pool(local: Local) -> nn.Module:
    if local == "max":
        return nn.MaxPool2d(3, stride=1, padding=1)
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
