"""Means of maps and of neighbourhoods, against loops and a transformer written by hand."""

from itertools import product

import pytest
import torch
from torch import Tensor

from small_tokens import by_hand, transformer
from whatwhere.errors import InputError
from whatwhere.need.averaging import pool, spatial_mean, window_means


def test_spatial_mean_by_loops() -> None:
    maps = torch.randn(2, 3, 4, 5)
    out = spatial_mean(maps)
    for i, c in product(range(2), range(3)):
        mean = sum(maps[i, c].flatten().tolist()) / 20
        assert torch.allclose(out[i, c], torch.full((4, 5), mean), atol=1e-6)


def test_means_of_windows_by_loops() -> None:
    maps = torch.randn(2, 3, 5, 7)
    for window in (2, 3, 9):
        out = window_means(maps, window)
        for n, c, i, j in product(range(2), range(3), range(5), range(7)):
            top, left = i // window * window, j // window * window
            inside = [(a, b) for a in range(top, min(top + window, 5)) for b in range(left, min(left + window, 7))]
            mean = sum(float(maps[n, c, a, b]) for a, b in inside) / len(inside)
            assert abs(float(out[n, c, i, j]) - mean) < 1e-5


def merged(tokens: Tensor) -> Tensor:
    """2 x 2 of the 4 x 4 tokens behind the class token, by their numbers."""
    new = tokens.clone()
    for i, j in product((0, 2), (0, 2)):
        together = [1 + 4 * (i + a) + j + b for a, b in product(range(2), range(2))]
        new[:, together] = tokens[:, together].mean(1, keepdim=True)
    return new


@torch.no_grad()
def test_tokens_merged_in_a_transformer_by_hand() -> None:
    net = transformer("vit")
    x = torch.randn(3, 3, 32, 32)
    intact = net.module(x)
    assert torch.allclose(intact, by_hand(net.module, x), atol=1e-4)
    with pool(net, "blocks.1:", window=2) as acts:
        found = net.module(x)
    expected = by_hand(net.module, x, lambda block, tokens: merged(tokens) if block == 1 else tokens)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, intact, atol=1e-2)
    assert torch.equal(intact, net.module(x))
    assert "blocks.1" in acts.ran


@torch.no_grad()
def test_windows_as_large_as_the_map_are_the_mean_of_the_map() -> None:
    net = transformer("torchvision")
    x = torch.randn(2, 3, 32, 32)
    with pool(net, "encoder.layers.encoder_layer_1", window=4):
        a = net.module(x)
    with pool(net, "encoder.layers.encoder_layer_1"):
        b = net.module(x)
    assert torch.allclose(a, b, atol=1e-5)


def test_errors() -> None:
    net = transformer("vit")
    for window in (1, 0, 2.5, True):
        with pytest.raises(InputError, match="window="):
            pool(net, "blocks.1", window=window)
    with pytest.raises(InputError, match="prefix"):
        pool(net, "blocks.1", prefix="drop")
