"""What sort of layer a module is: its kind, where it looks for its map and channels, what it costs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
POOLS = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
# Leaves that tell where the channels of their input are; Swin and ConvNeXt have channels-last *shapes*.
CHANNELS_FIRST_LEAVES = (nn.Conv2d, nn.ConvTranspose2d, nn.modules.batchnorm._NormBase, nn.GroupNorm, *POOLS)
CHANNELS_LAST_LEAVES = (nn.Linear, nn.LayerNorm)


def kind_of(module: nn.Module) -> str:
    """What sort of place a module is; see `Site.kind`."""
    if isinstance(module, nn.Conv2d):
        return "conv1x1" if tuple(module.kernel_size) == (1, 1) else "conv"
    if isinstance(module, NORMS):
        return "norm"
    if isinstance(module, POOLS):
        return "pool"
    if isinstance(module, nn.Linear):
        return "linear"
    if type(module).__module__.startswith("torch.nn.modules.activation") and not isinstance(
        module, nn.MultiheadAttention
    ):
        return "act"
    if next(module.children(), None) is None:
        return "other"
    return "block" if is_residual_block(module) else "group"


def is_residual_block(module: nn.Module) -> bool:
    """Whether a module is a ResNet block as torchvision, timm and this package write it.

    Its branch begins at `conv1`, its shortcut is the block's input or `downsample` of it, and they are added. Where
    `bn1` comes first (pre-activation), `conv1` does not see the block's input, and the block is of another make.
    """
    parts = branch_parts(module)
    return bool(parts) and parts.index("conv1") < parts.index("bn1")


def branch_parts(module: nn.Module) -> list[str]:
    """The convolutions and norms of a residual block's branch, in order; none for any other module."""
    if not all(hasattr(module, name) for name in ("conv1", "bn1", "conv2", "downsample")):
        return []
    return [name for name, _ in module.named_children() if re.fullmatch(r"(conv|bn)\d", name)]


def certain_layout(m: nn.Module) -> str | None:
    """NCHW or NHWC for a leaf whose type fixes the layout of its input; None for any other module."""
    if isinstance(m, CHANNELS_FIRST_LEAVES):
        return "NCHW"
    if isinstance(m, CHANNELS_LAST_LEAVES):
        # torchvision's and timm's LayerNorm2d are LayerNorms that take (N, C, H, W); ConvNeXt's own says so.
        first = "2d" in type(m).__name__ or getattr(m, "data_format", "") == "channels_first"
        return "NCHW" if first else "NHWC"
    return None


def chw(raw: Sequence[int], layout: str) -> tuple[int, int, int]:
    """(C, H, W) of the axes of one picture in a layout."""
    a, b, c = raw
    return (c, a, b) if layout == "NHWC" else (a, b, c)


def leaf_flops(m: nn.Module, out: Tensor | None) -> int:
    """Floating-point operations behind an output of a convolution or linear layer; 0 for everything else.

    A module of our own that multiplies says so by its attribute `multiply_adds`, for one output value.
    """
    per_value = m.weight[0].numel() if isinstance(m, nn.Conv2d | nn.Linear) else getattr(m, "multiply_adds", 0)
    if out is None or not per_value:
        return 0
    return 2 * per_value * out.numel()  # not out[0]: of Swin's windows the first axis counts too


def map_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The map among a call's arguments, however it was called: the first tensor with three or four axes."""
    return next((a for a in (*args, *kwargs.values()) if _may_be_map(a)), None)


def with_map(args: tuple[Any, ...], kwargs: Mapping[str, Any], new: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments with another map in the place of that which `map_in` finds."""
    old = map_in(args, kwargs)
    return tuple(new if a is old else a for a in args), {k: new if v is old else v for k, v in kwargs.items()}


def _may_be_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim in (3, 4)
