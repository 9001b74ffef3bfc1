"""Prefix tokens averaged and swapped, against a transformer written by hand."""

import pytest
import torch
from torch import Tensor

from small_tokens import by_hand, transformer
from whatwhere.errors import InputError
from whatwhere.need.averaging import pool
from whatwhere.need.prefix_tokens import prefix, prefix_change
from whatwhere.need.shuffling import draw, shuffle


@torch.no_grad()
def test_the_mean_by_hand() -> None:
    net, x = transformer("vit"), torch.randn(4, 3, 32, 32)
    intact = net.module(x)

    def before(block: int, tokens: Tensor) -> Tensor:
        mean = sum(tokens[i, 0] for i in range(4)) / 4
        return torch.cat([mean.expand(4, 1, -1), tokens[:, 1:]], 1) if block >= 1 else tokens

    with prefix(net, "blocks.1:") as acts:
        found = net.module(x)
    assert acts.matched == ("blocks.1",)  # not the final norm, behind which all scores would be the same
    assert torch.allclose(found, by_hand(net.module, x, before), atol=1e-4)
    assert not torch.allclose(found, intact, atol=1e-2)
    assert torch.equal(net.module(x), intact)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_swapping_by_hand(seed: int) -> None:
    net, x = transformer("vit"), torch.randn(5, 3, 32, 32)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed)).tolist()
    previous = {order[i]: order[i - 1] for i in range(5)}

    def before(block: int, tokens: Tensor) -> Tensor:
        if block == 0:
            return tokens
        return torch.stack([torch.cat([tokens[previous[i], :1], tokens[i, 1:]]) for i in range(5)])

    with prefix(net, "blocks.1", "swap", seed=seed):
        found = net.module(x)
    assert torch.allclose(found, by_hand(net.module, x, before), atol=1e-4)


def test_no_picture_keeps_its_own() -> None:
    change = prefix_change("swap", torch.Generator().manual_seed(0))
    assert change
    tokens = torch.arange(7.0).view(7, 1, 1)
    for _ in range(50):
        swapped = change(tokens)
        assert sorted(swapped.flatten().tolist()) == list(range(7))
        assert not (swapped == tokens).any()


@torch.no_grad()
def test_beside_a_shuffle_by_hand() -> None:
    net, x = transformer("vit"), torch.randn(3, 3, 32, 32)
    order = draw("shared", (1, 4, 4), torch.Generator().manual_seed(2))

    def before(block: int, tokens: Tensor) -> Tensor:
        mean = tokens[:, :1].mean(0, keepdim=True).expand(3, -1, -1)
        return torch.cat([mean, tokens[:, 1:][:, order]], 1) if block == 1 else tokens

    with shuffle(net, "blocks.1", mode="shared", prefix="mean", seed=2):
        found = net.module(x)
    assert torch.allclose(found, by_hand(net.module, x, before), atol=1e-4)
    with pool(net, "blocks.1", prefix="mean"):
        found = net.module(x)
    pooled = by_hand(
        net.module,
        x,
        lambda block, t: (
            torch.cat(
                [t[:, :1].mean(0, keepdim=True).expand(3, -1, -1), t[:, 1:].mean(1, keepdim=True).expand(-1, 16, -1)], 1
            )
            if block == 1
            else t
        ),
    )
    assert torch.allclose(found, pooled, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["registers", "deit", "eva", "torchvision"])
def test_all_prefix_tokens_of_other_makes_are_swapped(name: str) -> None:
    net = transformer(name)
    assert net.input_size
    x = torch.randn(4, *net.input_size)
    intact = net.module(x)
    with prefix(net, how="swap") as acts:
        changed = net.module(x)
    assert len(acts.matched) == 2
    assert not torch.allclose(changed, intact, atol=1e-3)
    assert torch.equal(net.module(x), intact)


@torch.no_grad()
def test_errors() -> None:
    net = transformer("vit")
    with pytest.raises(InputError, match="how='keep'"):
        prefix(net, how="keep")
    with pytest.raises(InputError, match="prefix='zero'"):
        shuffle(net, "blocks.1", prefix="zero")
    with pytest.raises(InputError, match="no tokens come before those of the map at patch_embed"):
        prefix(transformer("pooled"))
    with pytest.raises(InputError, match="no tokens come before"):
        shuffle(net, "patch_embed.proj", prefix="mean")
    with pytest.raises(InputError, match="a batch of one picture"), prefix(net):
        net.module(torch.zeros(1, 3, 32, 32))
