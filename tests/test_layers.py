"""What sort of layer a module is, on modules made for it."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from whatwhere.layers import (
    branch_parts,
    certain_layout,
    chw,
    is_residual_block,
    kind_of,
    leaf_flops,
    map_in,
    with_map,
)


def block(*names: str, shortcut: bool = True) -> nn.Module:
    """A module with children of some names, as a residual block has them."""
    made = nn.Module()
    for name in names:
        made.add_module(name, nn.Conv2d(2, 2, 3) if name.startswith("conv") else nn.BatchNorm2d(2))
    if shortcut:
        made.downsample = None
    return made


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(2, 2, 3), "conv"),
        (nn.Conv2d(2, 2, (1, 3)), "conv"),
        (nn.Conv2d(2, 2, 1), "conv1x1"),
        (nn.Conv2d(2, 2, 1, stride=2), "conv1x1"),
        (nn.BatchNorm2d(2), "norm"),
        (nn.GroupNorm(1, 2), "norm"),
        (nn.LayerNorm(2), "norm"),
        (nn.MaxPool2d(2), "pool"),
        (nn.AdaptiveAvgPool2d(1), "pool"),
        (nn.Linear(2, 2), "linear"),
        (nn.GELU(), "act"),
        (nn.MultiheadAttention(2, 1), "group"),  # lives among the activations, and is none
        (nn.Identity(), "other"),
        (nn.Sequential(nn.ReLU()), "group"),
        (block("conv1", "bn1", "conv2", "bn2"), "block"),
        (block("bn1", "conv1", "bn2", "conv2"), "group"),  # pre-activation
    ],
)
def test_kinds(module: nn.Module, kind: str) -> None:
    assert kind_of(module) == kind


def test_the_parts_of_a_residual_branch_in_order() -> None:
    bottleneck = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
    assert branch_parts(block(*bottleneck)) == list(bottleneck)
    assert branch_parts(block("bn1", "conv1", "conv2")) == ["bn1", "conv1", "conv2"]
    assert branch_parts(block("conv1", "bn1", "conv2", shortcut=False)) == []
    assert branch_parts(nn.Sequential(OrderedDict(conv1=nn.Conv2d(2, 2, 3)))) == []
    assert is_residual_block(block(*bottleneck))
    assert not is_residual_block(block("conv1", "bn1"))


class LayerNorm2d(nn.LayerNorm):
    """As torchvision and timm name theirs, which take (N, C, H, W)."""


@pytest.mark.parametrize(
    ("module", "layout"),
    [
        (nn.Conv2d(2, 2, 3), "NCHW"),
        (nn.ConvTranspose2d(2, 2, 3), "NCHW"),
        (nn.BatchNorm2d(2), "NCHW"),
        (nn.AvgPool2d(2), "NCHW"),
        (nn.Linear(2, 2), "NHWC"),
        (nn.LayerNorm(2), "NHWC"),
        (LayerNorm2d(2), "NCHW"),
        (nn.ReLU(), None),
        (nn.Sequential(), None),
    ],
)
def test_layouts_that_a_type_fixes(module: nn.Module, layout: str | None) -> None:
    assert certain_layout(module) == layout


def test_axes_of_a_layout() -> None:
    assert chw((5, 6, 7), "NCHW") == (5, 6, 7)
    assert chw((6, 7, 5), "NHWC") == (5, 6, 7)


def test_operations_of_a_convolution_are_two_for_each_of_its_multiplications() -> None:
    conv, x = nn.Conv2d(6, 4, (3, 5), groups=2), torch.zeros(1, 6, 9, 8)
    multiplications = 4 * 7 * 4 * (3 * 3 * 5)  # channels, rows, columns; 3 of the 6 channels each
    assert leaf_flops(conv, conv(x)) == 2 * multiplications


def test_operations_of_other_leaves() -> None:
    class Gate(nn.Module):
        multiply_adds = 3

    out: Tensor = torch.zeros(10, 5, 7)  # five windows, of which the first axis counts too
    assert leaf_flops(nn.Linear(4, 7), out) == 2 * 4 * 7 * 50
    assert leaf_flops(Gate(), torch.zeros(2, 4)) == 2 * 3 * 8
    assert leaf_flops(nn.ReLU(), out) == 0
    assert leaf_flops(nn.Linear(4, 7), None) == 0


def test_the_map_is_found_however_a_module_is_called() -> None:
    maps, tokens, mask, new = torch.zeros(1, 2, 3, 4), torch.zeros(1, 5, 2), torch.zeros(1, 5), torch.ones(1)
    assert map_in((maps,), {}) is maps
    assert map_in((None, mask), {"x": maps, "y": tokens}) is maps
    assert map_in((), {"mask": mask, "hidden_states": tokens}) is tokens
    assert map_in((mask, [maps]), {}) is None
    args, options = with_map((None, mask), {"x": maps, "scale": 2}, new)
    assert args == (None, mask)
    assert options == {"x": new, "scale": 2}
    args, options = with_map((maps, mask), {"mask": None}, new)
    assert args[0] is new
    assert args[1] is mask
    assert options == {"mask": None}


def test_a_map_given_twice_is_changed_twice() -> None:
    maps, new = torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4)
    args, options = with_map((maps,), {"query": maps}, new)
    assert args[0] is options["query"] is new
    assert isinstance(nn.Identity()(args[0]), torch.Tensor)
