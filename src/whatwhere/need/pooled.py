"""A network's graph with one map pooled: what each operator behind it does to a value that is constant over space."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow
from whatwhere.graph.rewrite import Rewritten, called_parts, rewritten
from whatwhere.graph.trace import execute
from whatwhere.layers import POOLS
from whatwhere.need.borderless import RESIZERS, on_constant_maps
from whatwhere.need.edited import EditedGraph, free, is_map, modules_after, nodes_after, place
from whatwhere.need.entry import SpatialMean
from whatwhere.need.equal_tokens import Unit, affine_unit, is_even
from whatwhere.need.on_vectors import folded, like, summed
from whatwhere.need.reshaped import fit_sizes, is_reshape, keeps_sizes
from whatwhere.need.windows import convolution_in
from whatwhere.site import Site, evaluating
from whatwhere.surgery import Replaced, describe, put

LET_PASS = (*POOLS, *RESIZERS)
LETS_PASS = ("pool", "interpolate", "upsample", "pad")  # in the name of an operator
NOT_CONSTANT = (nn.modules.conv._ConvTransposeNd, nn.PixelShuffle, nn.PixelUnshuffle, nn.Fold, nn.Unfold, nn.LPPool2d)


def constant_at(flow: Flow, site: Site) -> Tensor:
    """A random tensor, constant over the positions of a site's map, as the network has it there.

    Each channel of each picture has a value of its own, as large as those of the map: means of noise would be all the
    same, and a ReLU might let none of them pass.
    """
    value, pool = _map_at(flow, site), SpatialMean(site.layout)
    drawn = torch.randn(pool(value).shape, generator=torch.Generator().manual_seed(0)).to(value)
    return pool.spread(drawn * value.square().mean().sqrt(), value.shape)


def mean_at(flow: Flow, site: Site) -> Tensor:
    """The map that enters a site for the pair of pictures, constant at its mean."""
    value = _map_at(flow, site)
    pool = SpatialMean(site.layout)
    return pool.spread(pool(value), value.shape)


def _map_at(flow: Flow, site: Site) -> Tensor:
    node = flow.entering(site)
    assert node
    with evaluating(flow.module):
        value: Tensor = flow.run({flow.picture: flow.example()}, [node])[node]
    return value


class PooledGraph(EditedGraph):
    """Rewrites the graph of a network that is a copy already, and whose modules may be replaced.

    Args:
        flow: of the copy.
        original: of the network itself, which stays as it is.
        start: the site whose map is pooled; nothing goes round it.

    Raises:
        InputError: for an operator behind the site that gives maps which are not constant.
    """

    def __init__(self, flow: Flow, original: Flow, start: Site) -> None:
        super().__init__(flow, original, start)
        self._copies: dict[str, str] = {}  # of layers that run before the pool, too
        self.passed: dict[str, fx.Node] = {}  # for each node that is gone, what is read instead
        self.gap = free(flow.module, "gap")
        flow.module.add_module(self.gap, SpatialMean(start.layout))
        self.pooled = self._pool()
        self._drop_assertions()
        for node in [n for n in flow.nodes if n in self.later]:
            self._rewrite(node)

    @property
    def layers(self) -> list[str]:
        """The modules behind the pool, in order."""
        return modules_after(self.flow.graph, self.pooled)

    def _pool(self) -> fx.Node:
        """Whatever reads the map from now on reads its mean."""
        graph, names = self.flow.graph, {self.entry, *self.flow.changed.get(self.entry, ())}
        with graph.inserting_after(self.entry):
            pooled = graph.call_module(self.gap, (self.entry,))
        readers = nodes_after(graph, pooled)
        for node in readers:
            for name in names & set(node.all_input_nodes):
                node.replace_input_with(name, pooled)
        return pooled

    def _drop_assertions(self) -> None:
        """What a network demands of its maps' sizes."""
        for node in [n for n in self.flow.graph.nodes if n.target is torch._assert]:
            self.flow.graph.erase_node(node)

    def _rewrite(self, node: fx.Node) -> None:
        if node.op == "call_module":
            self._rewrite_module(node, self.flow.module.get_submodule(str(node.target)))
        elif node.op != "output":
            self._rewrite_operator(node, getattr(node.target, "__name__", str(node.target)))

    # ---- modules

    def _rewrite_module(self, node: fx.Node, m: nn.Module) -> None:
        shape = self.flow.shapes.get(self.flow.sources[node][0], ())
        if not is_map(shape):
            return
        if isinstance(m, NOT_CONSTANT):
            raise InputError(f"{node.target}, a {type(m).__name__}, makes no constant map of one")
        if isinstance(m, nn.Conv2d):
            self._replace(node, m)
        elif isinstance(m, LET_PASS):
            self.replaced.append(Replaced(str(node.target), describe(m), "Identity()"))
            self._let_pass(node)

    def _replace(self, node: fx.Node, conv: nn.Conv2d) -> None:
        if (*conv.kernel_size, *conv.stride) == (1, 1, 1, 1) and not _pads(conv):
            return
        weight, bias = weights_used(conv)
        new = like(conv, summed(weight, bias, conv.groups))
        self.replaced.append(Replaced(str(node.target), describe(conv), describe(new)))
        if self._runs_before(node):  # these calls see maps still; from now on there are two layers
            node.target = self._beside(str(node.target), new)
        else:
            put(self.flow.module, str(node.target), new)

    def _runs_before(self, node: fx.Node) -> bool:
        calls = [n for n in self.flow.graph.nodes if n.op == "call_module" and n.target == node.target]
        return not all(n in self.later for n in calls)

    def _beside(self, name: str, new: nn.Module) -> str:
        """Put a layer beside the one of some name, once for all its calls behind the pool; gives its name."""
        if name not in self._copies:
            parent, _, last = name.rpartition(".")
            beside = free(self.flow.module.get_submodule(parent), f"{last}_pooled")
            self._copies[name] = f"{parent}.{beside}" if parent else beside
            put(self.flow.module, self._copies[name], new)
        return self._copies[name]

    def _let_pass(self, node: fx.Node) -> None:
        """A pool or pad of a constant map gives its value; what is then changed in place must not be the original."""
        source: Any = node.args[0] if node.args else next(iter(node.kwargs.values()))
        if any(node in changed for changed in self.flow.changed.values()):
            with self.flow.graph.inserting_before(node):
                source = self.flow.graph.call_method("clone", (source,))
        self.passed[node.name] = source
        node.replace_all_uses_with(source)
        self.flow.graph.erase_node(node)

    # ---- operators between modules

    def _rewrite_operator(self, node: fx.Node, name: str) -> None:
        shape = self.flow.shapes.get(self.flow.sources[node][0], ())
        if name in ("conv2d", "_conv2d") and is_map(shape):
            self._replace_operator(node)
        elif name in ("lp_pool2d", "pixel_shuffle", "pixel_unshuffle", "conv_transpose2d", "unfold", "fold"):
            raise InputError(f"{node.name} ({name}) makes no constant map of one")
        elif any(part in name for part in LETS_PASS) and is_map(shape) and self._is_spatial(node, shape):
            self.replaced.append(Replaced(place(self.flow, node), name, "Identity()"))
            self._let_pass(node)
        elif name in ("view", "reshape", "flatten") and _flattens(shape, self.flow.shapes.get(node, ())):
            node.op, node.target, node.args, node.kwargs = "call_function", torch.flatten, (node.args[0], 1), {}

    def _is_spatial(self, node: fx.Node, shape: tuple[int, ...]) -> bool:
        """Whether an operator that pads or pools leaves the batch and the channels alone."""
        left = self.flow.shapes.get(node, ())
        return len(left) == 4 and left[0] == shape[0] and (left[1] == shape[1] or left[3] == shape[3])

    def _replace_operator(self, node: fx.Node) -> None:
        given = self.convolution_of(node)
        weight, bias = given["weight"], given.get("bias")
        new = summed(weight, bias, int(given.get("groups", 1)))
        name = f"collapsed_{node.name}"
        self.flow.module.add_module(name, new)
        self.replaced.append(Replaced(place(self.flow, node), f"conv2d{tuple(weight.shape)}", describe(new)))
        with self.flow.graph.inserting_before(node):
            call = self.flow.graph.call_module(name, (given["input"],))
        node.replace_all_uses_with(call)
        self.flow.graph.erase_node(node)

    # ---- seen to run

    def finished(self) -> Rewritten:
        """The network; layers that read a flattened map get one column for each channel.

        Raises:
            InputError: if an operator cannot work on one position.
        """
        while stuck := self._stuck():
            node, error = stuck
            if not self._reduced(node) and not fit_sizes(node, self._constant_values.get(self._plain(node))):
                raise error
        self.keep_to_size()
        new = rewritten(called_parts(self.flow.module, self.flow.graph), self.flow.graph)
        new.__dict__["pooled_by"] = self.gap
        return new

    def _stuck(self) -> tuple[fx.Node, InputError] | None:
        """The first node that cannot work on one position, and why; None if all do."""
        values: dict[fx.Node, Any] = {}
        with evaluating(self.flow.module):
            for node in list(self.flow.graph.nodes):
                try:
                    values[node] = self._seen_to_run(node, values)
                except InputError as error:
                    return node, error
        return None

    def _plain(self, node: fx.Node) -> Any:
        """The node of the network itself that a node was; None if it is new."""
        return self.original.named.get(node.name)

    def _reduced(self, node: fx.Node) -> bool:
        """Put one affine layer in the place of the attention around a node; False if there is none."""
        plain = self._plain(node)
        entry = self.original.named[self.entry.name]
        if plain not in self.original.sources or not self._constant_values:
            return False
        unit = affine_unit(self.original, entry, plain, self._constant_values)
        if unit is None:
            return False
        ours = {n.name: n for n in self.flow.graph.nodes} | self.passed
        source = self.pooled if unit.entry is entry else ours.get(unit.entry.name)
        left = ours.get(unit.exit.name)
        if source is None or left is None:
            return False
        self._put_unit(source, left, unit, ours)
        return True

    @cached_property
    def _constant_values(self) -> dict[fx.Node, Any]:
        """What each node of the original gives if the map is constant; {} if that makes others that are not."""
        try:
            return on_constant_maps(
                self.original, self.original.named[self.entry.name], constant_at(self.original, self.start)
            )
        except InputError:
            return {}

    def _put_unit(self, source: fx.Node, left: fx.Node, unit: Unit, ours: dict[str, fx.Node]) -> None:
        name = free(self.flow.module, f"reduced_{unit.exit.name}")
        self.flow.module.add_module(name, unit.layer.train(self.flow.module.training))
        with self.flow.graph.inserting_after(left):
            call = self.flow.graph.call_module(name, (source,))
        left.replace_all_uses_with(call)
        self.replaced.append(Replaced(place(self.flow, left), "attention on equal tokens", describe(unit.layer)))
        self._erase_unread({n.name for n in unit.inside})

    def _erase_unread(self, names: set[str]) -> None:
        """Drop nodes of some names, and sizes, that nothing reads any more."""
        for node in reversed(list(self.flow.graph.nodes)):
            is_size = node.op in ("call_function", "call_method") and node not in self.flow.sources
            if not node.users and node not in self.flow.changed and (node.name in names or is_size):
                self.flow.graph.erase_node(node)

    def _seen_to_run(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        if node.op == "placeholder":
            return self.flow.example() if node is self.flow.picture else self.flow.known(node)
        m = self.flow.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(m, nn.Linear):
            self._fit(node, m, values[node.args[0]])  # type: ignore[index]
        try:
            value = execute(self.flow.module, node, values.__getitem__)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, ZeroDivisionError) as error:
            where, why = place(self.flow, node), " ".join(str(error).split())[:160]
            raise InputError(f"{where} cannot work on one position: {why}") from error
        if node in self.later and isinstance(value, Tensor) and value.isnan().any():
            raise InputError(f"{place(self.flow, node)} cannot work on one position: it gives no number (NaN) there")
        if node in self.later and keeps_sizes(node, value, self._constant_of(node)):
            raise InputError(f"{place(self.flow, node)} makes several positions of the channels of one")
        return value

    def _constant_of(self, node: fx.Node) -> Any:
        """What a node gives in the network itself if the map is constant; None unless it is a reshape's."""
        return self._constant_values.get(self._plain(node)) if is_reshape(node) else None

    def _fit(self, node: fx.Node, linear: nn.Linear, x: Tensor) -> None:
        """A layer that flattened maps of several positions gets a column for each channel."""
        if x.shape[-1] == linear.in_features or x.ndim != 2 or node not in self.later:
            return
        new = like(linear, folded(linear, self._channels(node, x.shape[-1])))
        self.replaced.append(Replaced(str(node.target), describe(linear), describe(new)))
        put(self.flow.module, str(node.target), new)

    def _channels(self, node: fx.Node, count: int) -> Tensor:
        """Of which channel each input of a layer was: the map before it is filled with their numbers, and followed."""
        plain = self.original
        source = plain.sources[plain.named[node.name]][0]
        below = source
        while len(plain.shapes.get(below, ())) != 4:
            below = plain.sources[below][0]
        shape = plain.shapes[below]
        axis = next((a for a in (1, 3) if shape[a] == count and is_even(self._constant_values.get(below), a)), 1)
        if shape[axis] != count:
            raise InputError(f"{node.target} reads {count} values of a map of {shape[axis]} channels")
        numbers = torch.arange(float(count)).view([-1 if i == axis else 1 for i in range(4)])
        with evaluating(plain.module):
            found = plain.run({below: numbers.expand(shape).contiguous()}, [source])[source][0]
        channels = found.round().long()
        if not torch.equal(channels.float(), found.float()) or not _each_as_often(channels, count):
            raise InputError(f"{node.target} reads a map in an order that cannot be told")
        return channels


def _flattens(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return len(before) == 4 and after == (before[0], before[1] * before[2] * before[3])


def _pads(conv: nn.Conv2d) -> bool:
    return conv.padding not in ((0, 0), "valid", "same")


def _each_as_often(channels: Tensor, count: int) -> bool:
    if int(channels.min()) < 0 or int(channels.max()) != count - 1:
        return False
    return channels.bincount(minlength=count).unique().numel() == 1


def weights_used(conv: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """The weights that a convolution works with: its own, or those that a forward of its own makes of them.

    Raises:
        InputError: if it does not convolve once.
    """
    if type(conv).forward is nn.Conv2d.forward:
        return conv.weight, conv.bias
    side = 4 * max(k * d for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
    example = torch.randn(1, conv.in_channels, side, side).to(conv.weight)
    given = convolution_in(conv, example)
    return given["weight"], given.get("bias")
