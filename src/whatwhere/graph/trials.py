"""What a node does to the value that it takes, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from math import prod

import torch
from torch import Tensor, fx, nn

from whatwhere.graph.flow import Flow
from whatwhere.layers import NORMS, POOLS

# In the names of functions that look at more than one value at a time.
_LAYERS = ("conv", "linear", "matmul", "einsum", "bmm", "addmm", "attention", "pool")
_NOTHING = (nn.Identity, nn.modules.dropout._DropoutNd)
_LINEAR = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.pooling._MaxPoolNd)
_SUMS = ("add", "iadd", "add_", "sub", "isub", "sub_", "cat", "concat", "concatenate", "stack")


def name_of(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    return str(getattr(node.target, "__name__", node.target))


class Trials:
    """Tries single nodes and parts of a network on numbers drawn at random; in evaluation mode, the caller's affair.

    Args:
        flow: the network's.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.passes: Callable[[fx.Node], bool] = cache(self._passes)

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls; None if it calls a function."""
        return self.flow.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def is_layer(self, node: fx.Node) -> bool:
        """Whether a node has learned to mix channels or positions, or pools windows."""
        m = self.module(node)
        if m is None:
            return any(n in name_of(node) for n in _LAYERS) and "adaptive" not in name_of(node)
        pools = isinstance(m, POOLS) and "Adaptive" not in type(m).__name__
        return pools or (not isinstance(m, NORMS) and any(map(_is_matrix, m.parameters())))

    def is_pointwise(self, node: fx.Node) -> bool:
        """Whether a node is a 1 x 1 convolution."""
        m = self.module(node)
        return isinstance(m, nn.Conv2d) and tuple(m.kernel_size) == (1, 1)

    def carries(self, node: fx.Node) -> bool:
        """Whether each number that a node gives comes from one number that it takes, and zero from zero.

        If the shape stays, so must the places: a transposition of equal axes does not count. Nor does a norm, whose
        statistics may be zero and one by chance.
        """
        if isinstance(self.module(node), NORMS) or not self._takes_one_value(node):
            return False
        (source,) = self.flow.sources[node]
        drawn = self.drawn(source)
        if prod(self.flow.shapes[node]) < drawn.numel():
            return False
        return not self.gives(node, torch.zeros_like(drawn)).any() and all(
            self._goes_to_one_place(node, drawn, at) for at in (drawn.numel() // 3, drawn.numel() - 1)
        )

    def _takes_one_value(self, node: fx.Node) -> bool:
        sources = self.flow.sources[node]
        return len(sources) == 1 and all(n in self.flow.shapes for n in (node, *sources))

    def _goes_to_one_place(self, node: fx.Node, drawn: Tensor, at: int) -> bool:
        given = drawn.flatten().clone()
        given[at] = torch.nan
        gone_to = self.gives(node, given.view_as(drawn)).isnan()
        kept = self.flow.shapes[node] != tuple(drawn.shape) or bool(gone_to.flatten()[at])
        return int(gone_to.sum()) == 1 and kept

    def _passes(self, node: fx.Node) -> bool:
        """Whether a node lets its value pass but for a factor: no operator, a drop path, a layer scale."""
        m = self.module(node)
        if isinstance(m, _NOTHING):
            return True
        if self.is_layer(node) or not self.carries(node):
            return False
        drawn = self.drawn(self.flow.sources[node][0])
        once, back, twice = (self.gives(node, drawn * factor) for factor in (1, -1, 2))
        return _are_close([once], [-back]) and _are_close([once, once], [twice])

    def is_linear(self, node: fx.Node) -> bool:
        """Whether a node is linear in the values that it takes, up to a constant; a max pool counts."""
        m = self.module(node)
        if isinstance(m, _LINEAR) or "max_pool" in name_of(node) or name_of(node) in _SUMS:
            return True
        if not self._takes_one_value(node):
            return False
        a, b = (self.drawn(self.flow.sources[node][0], seed=seed) for seed in (0, 1))
        parts = [self.gives(node, value) for value in (a, b)]
        return _are_close(parts, [self.gives(node, value) for value in (a + b, torch.zeros_like(a))])

    def drawn(self, node: fx.Node, *, seed: int = 0) -> Tensor:
        """Numbers drawn at random in the place of a node's value."""
        like = next(self.flow.module.parameters(), torch.empty(0))
        return torch.randn(self.flow.shapes[node], generator=torch.Generator().manual_seed(seed)).to(like)

    def gives(self, node: fx.Node, value: Tensor) -> Tensor:
        """What a node gives for a value of its only source."""
        # Of a value that was changed in place, the node names the one that held it at first.
        taken = [n for n in (*node.all_input_nodes, *self.flow.sources[node]) if n in self.flow.sources]
        given: Tensor = self.flow.run(dict.fromkeys(taken, value), [node])[node]
        return given


def _is_matrix(p: Tensor) -> bool:
    return p.numel() > max(p.shape, default=1)


def _are_close(some: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    """Whether two sums are equal, but for rounding."""
    a, b = sum(some, torch.zeros(())), sum(others, torch.zeros(()))
    return bool((a - b).abs().max() <= 1e-3 * a.abs().max())
