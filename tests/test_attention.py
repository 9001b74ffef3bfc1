"""Attention is counted by what is computed, in whatever way a network writes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import whatwhere as ww
from whatwhere.attention import AttentionCalls

TOKENS = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0))


def by_hand(x: Tensor) -> Tensor:
    weights = F.dropout((x @ x.transpose(1, 2)).softmax(-1), 0.5, training=False)
    return weights @ x


WAYS = {
    "fused": (lambda x: F.scaled_dot_product_attention(x, x, x), 1),
    "by hand": (by_hand, 1),
    "bmm": (lambda x: torch.bmm(torch.softmax(torch.bmm(x, x.mT), -1), x), 1),
    "einsum": (lambda x: torch.einsum("nij,njc->nic", F.softmax(x @ x.mT, dim=-1), x), 1),
    "twice": (lambda x: by_hand(by_hand(x)), 2),
    "module": (lambda x: nn.MultiheadAttention(8, 2, batch_first=True).eval()(x, x, x)[0], 1),
    "encoder": (lambda x: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()(x), 1),
    "scores of classes": (lambda x: x.mean(1).softmax(-1) @ x[0].mT, 0),  # of pictures, not of positions
    "gate": (lambda x: x * x.mean(1, keepdim=True).softmax(-1), 0),
    "product alone": (lambda x: x @ x.mT @ x, 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_attention_is_counted_once_however_it_is_written(way: str) -> None:
    function, expected = WAYS[way]
    with AttentionCalls() as calls:
        function(TOKENS)
    assert calls.count == expected


class Attends(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return by_hand(x.flatten(2).mT).mT.unflatten(2, x.shape[2:])


def test_attention_between_convolutions_counts_like_one_and_leaves_networks_without_it_as_they_were() -> None:
    parts = [nn.Conv2d(3, 8, 3, padding=1), Attends(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)]
    hybrid = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    shares = [s.depth_share for s in ww.sites(hybrid, input_size=(3, 8, 8))][:4]
    assert shares == [1.0, 0.75, 0.5, 0.25]
    plain = nn.Sequential(parts[0], *parts[2:])
    assert [s.depth_share for s in ww.sites(plain, input_size=(3, 8, 8))] == [1.0, 2 / 3, 1 / 3]
