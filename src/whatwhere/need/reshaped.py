"""Reshapes that took their sizes from elsewhere than from the map that is one position now."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

RESHAPES = ("view", "reshape")
FLAT = 1e-4  # of the largest value: rounding


def fit_sizes(node: fx.Node, value: Any) -> bool:
    """Let a reshape give one position: along the axes of its result over which a constant map does not vary.

    Args:
        node: of the graph whose map is pooled.
        value: what it gives in the network itself for maps that are constant.

    Returns:
        Whether this is a reshape whose sizes were other ones.
    """
    if not is_reshape(node) or not isinstance(value, Tensor):
        return False
    sizes = (-1, *(1 if _is_even(value, axis) else value.shape[axis] for axis in range(1, value.ndim)))
    args = (node.args[0], *sizes) if node.op == "call_method" else (node.args[0], sizes)
    if node.args == args:
        return False
    node.args, node.kwargs = args, {}
    return True


def is_reshape(node: fx.Node) -> bool:
    """Whether a node of a graph is a view or reshape."""
    return getattr(node.target, "__name__", node.target) in RESHAPES


def keeps_sizes(node: fx.Node, value: Any, constant: Any) -> bool:
    """Whether a reshape, given one position, spreads its channels over the positions that there were.

    Args:
        node: of the graph whose map is pooled.
        value: what it gives there.
        constant: what it gives in the network itself for maps that are constant.
    """
    if not (is_reshape(node) and isinstance(value, Tensor) and isinstance(constant, Tensor)):
        return False
    if value.ndim != constant.ndim or value[0].numel() == constant[0].numel():
        return False
    return any(value.shape[axis] > 1 and _is_even(constant, axis) for axis in range(1, value.ndim))


def _is_even(value: Tensor, axis: int) -> bool:
    """Whether a tensor is the same all along an axis."""
    spread = (value - value.narrow(axis, 0, 1)).abs().max()
    return float(spread) <= FLAT * max(float(value.abs().max()), 1e-12)
