"""Layers that pad in a mode, against NumPy's padding and the layer without its own."""

import copy
import pickle
from math import ceil
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn

from whatwhere.hold.padded import (
    PaddedConv,
    PaddedMap,
    PaddedPool,
    filled,
    is_own_conv,
    is_own_pool,
    window_amounts,
    without_padding,
)
from whatwhere.hold.uneven import window_of

NUMPY: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
FILLS = ("reflect", "replicate", "circular")


def padded(x: Tensor, rows: tuple[int, int], columns: tuple[int, int], fill: str, axes: tuple[int, int]) -> Tensor:
    amounts = [(0, 0)] * 4
    amounts[axes[0]], amounts[axes[1]] = rows, columns
    return torch.from_numpy(np.pad(x.numpy(), amounts, mode=NUMPY[fill]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", NUMPY)
def test_rows_and_columns_of_either_layout(mode: str, channels: int) -> None:
    x = torch.randn(2, 5, 6, 7)
    axes = (2, 3) if channels == 1 else (1, 2)
    expected = padded(x, (1, 3), (0, 2), mode, axes)
    assert torch.equal(filled(x, ((1, 3), (0, 2)), mode, channels=channels), expected)


def test_nothing_to_add_is_a_copy() -> None:
    x = torch.randn(1, 2, 3, 3)
    for y in (filled(x, ((0, 0), (0, 0)), "reflect"), filled(x, ((1, 1), (1, 1)), "none")):
        assert torch.equal(x, y)
        assert y.data_ptr() != x.data_ptr()  # as F.pad: what follows may work in place


# ---- timm's convolutions


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's rule: as many windows as ceil(size / stride), the odd pixel at the end."""
    total = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def standardised(conv: Any) -> Tensor:
    """The weights that timm's layers really use."""
    if isinstance(conv, Conv2dSame):
        return conv.weight
    w = conv.weight.flatten(1)
    w = (w - w.mean(1, keepdim=True)) / (w.var(1, unbiased=False, keepdim=True) + conv.eps).sqrt()
    gain = conv.gain.flatten(1) * conv.scale if hasattr(conv, "gain") else 1.0
    return (w * gain).view_as(conv.weight)


CONVS: list[tuple[Any, dict[str, Any]]] = [
    (Conv2dSame, {"kernel_size": 3, "stride": 2}),
    (Conv2dSame, {"kernel_size": 5, "stride": 2, "groups": 3, "bias": False}),
    (Conv2dSame, {"kernel_size": 4, "stride": 3}),
    (StdConv2dSame, {"kernel_size": 3, "stride": 2}),
    (ScaledStdConv2dSame, {"kernel_size": 3, "stride": 2}),
    (StdConv2d, {"kernel_size": 3, "padding": 1}),
    (ScaledStdConv2d, {"kernel_size": 5, "padding": 2, "stride": 2, "groups": 3}),
]


def drawn(kind: Any, options: dict[str, Any]) -> Any:
    conv = kind(3, 6, **options).eval()
    if hasattr(conv, "gain"):
        nn.init.uniform_(conv.gain, 0.5, 1.5)
    return conv


@pytest.mark.parametrize("size", [(11, 12), (16, 16)])
@pytest.mark.parametrize(("kind", "options"), CONVS, ids=str)
@pytest.mark.parametrize("mode", FILLS)
def test_a_convolution_by_hand(mode: str, kind: Any, options: dict[str, Any], size: tuple[int, int]) -> None:
    conv = drawn(kind, options).double()  # in float32 rounding alone exceeds the tolerance now and then
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    k, s, p = options["kernel_size"], options.get("stride", 1), options.get("padding")
    rows, columns = ((p, p), (p, p)) if p else (same(size[0], k, s), same(size[1], k, s))
    new = PaddedConv.of(copy.deepcopy(conv), mode)
    with torch.no_grad():
        expected = F.conv2d(padded(x, rows, columns, mode, (2, 3)), standardised(conv), conv.bias, s, 0, 1, conv.groups)
        torch.testing.assert_close(new(x), expected, rtol=1e-5, atol=1e-6)
        zeros = PaddedConv.of(copy.deepcopy(conv), "zeros")
        torch.testing.assert_close(zeros(x), conv(x), rtol=1e-6, atol=1e-6)
        if not p:
            assert torch.equal(zeros(x), conv(x))  # the same operators
        assert torch.equal(new.in_mode("zeros")(x), conv(x))
    assert window_amounts(window_of(conv), x) == (rows, columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "options"), CONVS, ids=str)
def test_names_copies_and_the_way_back(kind: Any, options: dict[str, Any]) -> None:
    conv = drawn(kind, options)
    x = torch.randn(2, 3, 11, 12)
    new = PaddedConv.of(copy.deepcopy(conv), "circular")
    assert list(new.state_dict()) == list(conv.state_dict())
    assert window_of(new) == window_of(conv)
    for again in (copy.deepcopy(new), pickle.loads(pickle.dumps(new))):
        assert torch.equal(again(x), new(x))
    back = new.in_mode("reflect").in_mode("zeros")  # type: ignore[operator]
    assert type(back) is kind
    assert repr(back) == repr(conv)
    assert torch.equal(back(x), conv(x))


def test_in_full_and_without() -> None:
    conv = drawn(ScaledStdConv2dSame, {"kernel_size": 3, "stride": 2})
    x = torch.randn(2, 3, 11, 12)
    full = PaddedConv.of(copy.deepcopy(conv), "reflect").in_mode("f-conv")
    with torch.no_grad():
        expected = F.conv2d(F.pad(x, (2, 2, 2, 2)), standardised(conv), conv.bias, 2)
        torch.testing.assert_close(full(x), expected, rtol=1e-5, atol=1e-6)
    again: Any = full
    assert type(again.in_mode("zeros")) is PaddedConv  # its amounts stay in full
    assert "padding=(2, 2), mode=zeros" in repr(full)
    plain = drawn(StdConv2d, {"kernel_size": 3, "padding": 1})
    bare = PaddedConv.of(copy.deepcopy(plain), "reflect").in_mode("none")
    with torch.no_grad():
        torch.testing.assert_close(bare(x), F.conv2d(x, standardised(plain)), rtol=1e-5, atol=1e-6)


def test_whose_convolutions_and_pools() -> None:
    class Conv2dSame(nn.Conv2d):
        """Somebody else's."""

    assert not is_own_conv(Conv2dSame(3, 3, 3))
    assert is_own_conv(timm.layers.Conv2dSame(3, 3, 3))
    assert is_own_pool(timm.layers.create_pool2d("avg", 3, 2, padding="same"))
    assert not is_own_pool(nn.AvgPool2d(3))


# ---- pools and maps


@pytest.mark.parametrize("mode", FILLS)
@pytest.mark.parametrize("size", [(11, 12), (16, 16)])
def test_timms_average_pool_by_hand(mode: str, size: tuple[int, int]) -> None:
    pool = timm.layers.create_pool2d("avg", 3, 2, padding="same")
    x = torch.randn(2, 3, *size)
    before = pool(x)
    new = PaddedPool(pool, mode)
    expected = F.avg_pool2d(padded(x, same(size[0], 3, 2), same(size[1], 3, 2), mode, (2, 3)), 3, 2)
    torch.testing.assert_close(new(x), expected)
    assert "padding=same" in repr(new)
    assert torch.equal(copy.deepcopy(new)(x), new(x))
    assert torch.equal(new.restored()(x), before)
    assert type(new.restored()).__name__ == "AvgPool2dSame"


@pytest.mark.parametrize("mode", FILLS)
@pytest.mark.parametrize("size", [(11, 12), (16, 17)])
def test_timms_maximum_pool_by_hand(mode: str, size: tuple[int, int]) -> None:
    pool = timm.layers.create_pool2d("max", 3, 2, padding="same")
    x = torch.randn(2, 3, *size)
    before, new = pool(x), PaddedPool(copy.deepcopy(pool), mode)
    expected = F.max_pool2d(padded(x, same(size[0], 3, 2), same(size[1], 3, 2), mode, (2, 3)), 3, 2)
    assert torch.equal(new(x), expected)
    assert torch.equal(new.restored()(x), before)
    assert type(without_padding(pool)) is nn.MaxPool2d
    assert torch.equal(pool(x), F.max_pool2d(x, 3, 2))


@pytest.mark.parametrize("mode", ["zeros", "none", *FILLS])
def test_a_module_that_only_pads(mode: str) -> None:
    x = torch.randn(2, 3, 6, 7)
    new = PaddedMap((1, 2, 0, 3), mode)
    expected = x if mode == "none" else padded(x, (0, 3), (1, 2), mode, (2, 3))
    assert torch.equal(new(x), expected)
    assert repr(new) == f"PaddedMap((1, 2, 0, 3), mode={mode})"
