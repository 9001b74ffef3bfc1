"""What a network does to a constant map without borders: the ground truth of what a collapsed one must do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow, ValueOf
from whatwhere.layers import POOLS
from whatwhere.site import evaluating

PADS = ("_ConstantPadNd", "_ReflectionPadNd", "_ReplicationPadNd", "_CircularPadNd")
RESIZERS = (nn.Upsample, *(getattr(nn.modules.padding, name) for name in PADS))
OVER_SPACE = (nn.modules.conv._ConvNd, *POOLS, *RESIZERS)
OPERATORS = ("conv", "pool", "interpolate", "upsample", "pad")
FLAT = 1e-3  # how far, of its largest value, a map that is constant may vary by rounding


def on_constant_maps(flow: Flow, entry: fx.Node, value: Tensor) -> dict[fx.Node, Any]:
    """What each node of a network gives whose map at a place is constant, as if no map after it had a border.

    Every operator that looks at more than one position gets a map that is large enough, and what it gives in the middle
    is taken for all positions.

    Args:
        flow: the network's.
        entry: the place; nothing goes round it.
        value: of the map there, constant over space, for `PICTURES` pictures.

    Returns:
        The values of the nodes after the place, the output among them.

    Raises:
        InputError: if a map after the place is not constant over space, though all that went into it was.
    """
    found: dict[fx.Node, Any] = {entry: value}

    def step(node: fx.Node, value_of: ValueOf) -> Any:
        given = _on_large_map(flow, node, value_of) if _looks_around(flow, node) else flow.step(node, value_of)
        found[node] = given.clone() if isinstance(given, Tensor) else given  # it may be changed in place later
        return given

    with evaluating(flow.module):
        flow.run({entry: value}, [flow.output], step)
    return found


def _looks_around(flow: Flow, node: fx.Node) -> bool:
    if node.op == "call_module":
        looks = isinstance(flow.module.get_submodule(str(node.target)), OVER_SPACE)
    else:
        looks = _looks(node, *OPERATORS)
    before, after = flow.shapes.get(next(iter(flow.sources[node]), node), ()), flow.shapes.get(node, ())
    return looks and len(before) == len(after) == 4 and before[2] * before[3] > 1


def _looks(node: fx.Node, *operators: str) -> bool:
    """Whether a node is an operator whose name has one of these parts."""
    name = getattr(node.target, "__name__", str(node.target))
    return node.op in ("call_function", "call_method") and any(part in name for part in operators)


def _on_large_map(flow: Flow, node: fx.Node, value_of: ValueOf) -> Tensor:
    shape, source = flow.shapes[node], flow.sources[node][0]
    x = value_of(source)
    if tuple(x.shape) == shape and _looks(node, "pad"):
        return x
    channels_last = _looks(node, "pad") and x.shape[1] != shape[1] and x.shape[3] == shape[3]  # of windows
    if channels_last:
        return x[:, :1, :1].expand(shape).contiguous()
    _refuse_uneven(x, node)
    side = _side(flow, node, value_of)
    large = x[:, :, :1, :1].expand(-1, -1, side, side).contiguous()
    given = flow.step(
        node, lambda n: large if n is source or (n in node.all_input_nodes and value_of(n) is x) else value_of(n)
    )
    middle = given[:, :, given.shape[2] // 2, given.shape[3] // 2]
    return middle[:, :, None, None].expand(shape).contiguous()


def _refuse_uneven(x: Tensor, node: fx.Node) -> None:
    spread = (x - x[:, :, :1, :1]).abs().max()
    if float(spread) > FLAT * max(float(x.abs().max()), 1e-6):
        raise InputError(f"the map that enters {node.name} varies over space, though all that goes into it is constant")


def _side(flow: Flow, node: fx.Node, value_of: ValueOf) -> int:
    """Of a map in whose middle an operator sees no border."""
    if node.op == "call_module":
        m: Any = flow.module.get_submodule(str(node.target))
        kernel, dilation = getattr(m, "kernel_size", 1), getattr(m, "dilation", 1)
    else:
        weight = next(
            (v for n in node.all_input_nodes if isinstance(v := value_of(n), Tensor) and n not in flow.sources), None
        )
        kernel = max(weight.shape[2:]) if weight is not None and weight.ndim == 4 else 8
        dilation = node.kwargs.get("dilation", node.args[5] if len(node.args) > 5 else 1)
    return 4 * (_largest(kernel) * _largest(dilation) + 2)


def _largest(value: Any) -> int:
    return max(map(int, value)) if isinstance(value, tuple | list | torch.Size) else int(value)
