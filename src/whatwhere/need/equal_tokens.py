"""Attention on equal tokens: whatever it attends to, it is one affine map of their value (value and projection)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx  # type: ignore[import-untyped,unused-ignore]
import torch
from torch import Tensor, fx, nn

from whatwhere.graph.flow import Flow
from whatwhere.need.on_vectors import OnVectors
from whatwhere.site import evaluating

TOGETHER = 32  # basis vectors that are tried in one batch
CLOSE, FLAT = 1e-4, 1e-4  # of the largest value: how far from affine, and from constant, by rounding alone
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError)


@dataclass(frozen=True)
class Unit:
    """A part of a network that is affine on constant maps.

    Attributes:
        entry: it is computed from this node alone.
        exit: and is all that follows reads of it.
        inside: its nodes, in order, the exit among them.
        layer: what takes its place where maps have one position.
    """

    entry: fx.Node
    exit: fx.Node
    inside: tuple[fx.Node, ...]
    layer: nn.Module


def affine_unit(flow: Flow, start: fx.Node, node: fx.Node, constant: Mapping[fx.Node, Any]) -> Unit | None:
    """The smallest part around a node that takes a map to a map, and is affine on constant ones.

    Args:
        flow: of the network.
        start: what lies before this node is left alone.
        node: the part is to hold it.
        constant: what each node gives if the map at `start` is constant; a map is then constant over its positions.

    Returns:
        The part; None if there is none.
    """
    for entry, exit in _around(flow, start, node):
        for axis in _channel_axes(flow.shapes.get(entry, ()), flow.shapes.get(exit, ())):
            if is_even(constant.get(entry), axis) and (layer := _layer(flow, entry, exit, axis)):
                between = flow.after(entry, until=exit) & {exit, *flow.before(exit)}  # other ways may go round the exit
                return Unit(entry, exit, tuple(n for n in flow.nodes if n in between), layer)
    return None


def is_even(value: Any, axis: int) -> bool:
    """Whether a value is the same at all positions, which are its axes but the first and that of the channels."""
    if not isinstance(value, Tensor):
        return False
    positions = value.movedim(axis, -1).flatten(1, -2)
    return float((positions - positions[:, :1]).abs().max()) <= FLAT * max(float(value.abs().max()), 1e-6)


def _around(flow: Flow, start: fx.Node, node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Places before and after a node that nothing goes round, the nearest first."""
    edges = [(s, n) for n, sources in flow.sources.items() for s in sources]
    before = list(_chain(nx.immediate_dominators(nx.DiGraph(edges), flow.picture), node, start))
    after = list(_chain(nx.immediate_dominators(nx.DiGraph((b, a) for a, b in edges), flow.output), node, flow.output))
    pairs = [(i + j, a, b) for i, a in enumerate(before) for j, b in enumerate([node, *after])]
    yield from ((a, b) for _, a, b in sorted(pairs, key=lambda p: p[0]))


def _chain(above: dict[fx.Node, fx.Node], node: fx.Node, last: fx.Node) -> Iterator[fx.Node]:
    while node is not last and above.get(node, node) is not node:
        node = above[node]
        yield node


def _channel_axes(before: tuple[int, ...], after: tuple[int, ...]) -> list[int]:
    """Which axis the channels of two maps may be on; none if these are no maps laid out alike."""
    if len(before) != len(after) or len(before) not in (3, 4):
        return []
    axes = [1, 3] if len(before) == 4 else [2]
    return [a for a in axes if _positions(before, a) > 1 and _positions(after, a) > 1]


def _positions(shape: tuple[int, ...], axis: int) -> int:
    return math.prod(n for i, n in enumerate(shape) if i not in (0, axis))


def _layer(flow: Flow, entry: fx.Node, exit: fx.Node, axis: int) -> nn.Module | None:
    shape = flow.shapes[entry]

    def on_constant(vectors: Tensor) -> Tensor:
        axes = [-1 if i == axis else 1 for i in range(1, len(shape))]
        maps = vectors.view(len(vectors), *axes).expand(len(vectors), *shape[1:]).contiguous()
        left: Tensor = flow.run({entry: maps}, [exit])[exit].movedim(axis, -1).flatten(1, -2)
        _refuse_uneven(left)
        return left[:, 0]

    try:
        with evaluating(flow.module):
            return _affine(on_constant, flow.example().new_zeros(1, shape[axis]), channels_first=axis == 1)
    except FAILURES:  # it needs more than the entry's value, or asks for sizes
        return None


def _refuse_uneven(left: Tensor) -> None:
    if float((left - left[:, :1]).abs().max()) > FLAT * max(float(left.abs().max()), 1e-6):
        raise ValueError("it gives no constant map")


def _affine(on_constant: object, zero: Tensor, *, channels_first: bool) -> nn.Module | None:
    run = on_constant
    assert callable(run)
    basis = torch.eye(zero.shape[1]).to(zero)
    bias = run(zero.expand(2, -1))[0]
    weight = torch.cat([run(part) for part in basis.split(TOGETHER)]) - bias
    tried = torch.randn(4, zero.shape[1], generator=torch.Generator().manual_seed(0)).to(zero)
    found, expected = run(tried), tried @ weight + bias
    if float((found - expected).abs().max()) > CLOSE * float(found.abs().max()):
        return None
    return _linear(weight.t(), bias, channels_first=channels_first)


def _linear(weight: Tensor, bias: Tensor, *, channels_first: bool) -> nn.Module:
    layer: OnVectors | nn.Linear
    layer = (
        OnVectors(weight.shape[1], weight.shape[0], 1)
        if channels_first
        else nn.Linear(weight.shape[1], weight.shape[0])
    )
    with torch.no_grad():
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        assert layer.bias is not None
        layer.bias.copy_(bias)
    return layer.to(device=weight.device, dtype=weight.dtype).eval()
