"""Taking position embeddings away, against transformers that never had them, and against pictures in another order."""

import pytest
import torch
from torch import Tensor, nn

from small_tokens import TRANSFORMERS, transformer
from whatwhere.errors import InputError
from whatwhere.need.embedding_removal import embedding
from whatwhere.need.embedding_search import embeddings_of
from whatwhere.network import Network

PATCHED = ("vit", "pooled", "deit", "deit3", "registers", "clip", "eva", "dinov3", "beit", "torchvision")


def pictures(net: Network, n: int = 3) -> Tensor:
    assert net.input_size
    return torch.randn(n, *net.input_size, generator=torch.Generator().manual_seed(5))


def patches_in_order(x: Tensor, order: Tensor) -> Tensor:
    """The picture whose patch i is patch `order[i]` of x, written patch by patch."""
    side = x.shape[-1] // 4
    new = torch.empty_like(x)
    for to, source in enumerate(order.tolist()):
        (a, b), (c, d) = divmod(to, 4), divmod(source, 4)
        new[..., a * side : (a + 1) * side, b * side : (b + 1) * side] = x[
            ..., c * side : (c + 1) * side, d * side : (d + 1) * side
        ]
    return new


@torch.no_grad()
@pytest.mark.parametrize("name", PATCHED)
def test_permuting_all_embeddings_is_permuting_the_patches_of_the_picture(name: str) -> None:
    # Attention knows no order: tokens with the embeddings of others are the tokens of a picture with moved patches.
    net = transformer(name)
    x = pictures(net)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    with embedding(net, "permute", seed=3) as acts:
        found = net.module(x)
    moved = net.module(patches_in_order(x, order.argsort()))
    assert torch.allclose(found, moved, atol=1e-4 * float(moved.abs().max()))
    assert not torch.allclose(found, net.module(x), atol=1e-2 * float(moved.abs().max()))
    assert dict(acts.ran) == dict.fromkeys(acts.matched, 1)


@torch.no_grad()
@pytest.mark.parametrize("how", ["zero", "mean", "permute"])
@pytest.mark.parametrize("name", [n for n in TRANSFORMERS if n != "none"])
def test_the_network_comes_back_bit_identical(name: str, how: str) -> None:
    net = transformer(name)
    x, before = pictures(net), {k: v.clone() for k, v in net.module.state_dict().items()}
    intact, keys = net.module(x), {m: set(m.__dict__) for m in net.module.modules()}
    with embedding(net, how):
        changed = net.module(x)
    assert not torch.equal(intact, changed)
    assert torch.equal(intact, net.module(x))
    assert all(torch.equal(before[k], v) for k, v in net.module.state_dict().items())
    assert keys == {m: set(m.__dict__) for m in net.module.modules()}


@torch.no_grad()
def test_without_an_absolute_embedding_it_is_the_network_that_never_had_one() -> None:
    net, never = transformer("vit"), transformer("none").module
    weights = dict(net.module.state_dict())
    rows = weights.pop("pos_embed")
    weights["cls_token"] = weights["cls_token"] + rows[:, :1]  # the class token's own row stays
    never.load_state_dict(weights)
    x = pictures(net)
    with embedding(net, "zero"):
        assert torch.allclose(net.module(x), never(x), atol=1e-5)
    shared = rows[:, 1:].mean(1)[0]
    never.patch_embed.proj.bias += shared  # the mean row, added to every patch
    with embedding(net, "mean"):
        assert torch.allclose(net.module(x), never(x), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("how", ["zero", "mean"])
@pytest.mark.parametrize("name", PATCHED)
def test_what_is_left_sees_no_order(name: str, how: str) -> None:
    net = transformer(name)
    x = pictures(net)
    moved = patches_in_order(x, torch.randperm(16, generator=torch.Generator().manual_seed(1)))
    with embedding(net, how):
        a, b = net.module(x), net.module(moved)
    assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("name", ["swin", "swinv2", "torchvision-swin"])
def test_biases_of_windows_by_hand(name: str) -> None:
    net = transformer(name)
    attention = next(m for n, m in net.module.named_modules() if n.endswith("attn"))
    x = torch.randn(2, 16, 8) if name != "torchvision-swin" else torch.randn(1, 4, 4, 8)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    flat = x.reshape(-1, 16, 8)
    moved = attention(flat[:, order.argsort()].reshape(x.shape)).reshape(-1, 16, 8)[:, order]
    found = _inside(net, attention, x)
    assert torch.allclose(found.reshape(-1, 16, 8), moved, atol=1e-5)


def _inside(net: Network, attention: nn.Module, x: Tensor) -> Tensor:
    """What an attention gives for x while the embeddings are permuted."""
    kept: list[Tensor] = []
    forward, looked_for = attention.forward, embeddings_of(net)

    def own(*args: Tensor, **kwargs: Tensor) -> Tensor:
        if not kept:
            kept.append(forward(x))
        return forward(*args, **kwargs)

    attention.forward = own
    try:
        with embedding(net, "permute", found=looked_for):
            net.module(pictures(net, 1))
    finally:
        del attention.forward
    return kept[0]


@torch.no_grad()
def test_draws() -> None:
    net = transformer("vit")
    x, found = pictures(net), embeddings_of(net)
    with embedding(net, seed=1, found=found):
        a, b = net.module(x), net.module(x)
    with embedding(net, generator=torch.Generator().manual_seed(1)):
        c = net.module(x)
    assert torch.equal(a, c)
    assert not torch.equal(a, b)  # redrawn
    with embedding(net, scope="fixed") as acts:
        a, b = net.module(x), net.module(x)
    assert torch.equal(a, b)
    assert acts.ran["pos_embed"] == 2
    net.module.eval()
    with embedding(net, when="train"):
        assert torch.equal(net.module(x), net.module(x))


def test_gradients_reach_the_embedding_in_its_new_order() -> None:
    net = transformer("vit")
    with embedding(net, seed=4):
        net.module(pictures(net)).square().sum().backward()
    grad = net.module.pos_embed.grad
    assert grad is not None
    assert bool((grad.abs().amax(-1) > 0).all())


def test_an_error_in_the_network_leaves_nothing() -> None:
    net = transformer("eva")
    with pytest.raises(AssertionError), embedding(net, "zero"):
        net.module(torch.zeros(1, 3, 35, 35))
    assert "get_embed" not in net.module.rope.__dict__
    assert "pos_embed" not in net.module.__dict__


def test_errors() -> None:
    with pytest.raises(InputError, match="no position embedding was found"):
        embedding(transformer("none"))
    with pytest.raises(InputError, match=r"kind='rotary': there is none; this network has pos_embed \(absolute\)"):
        embedding(transformer("vit"), kind="rotary")
    for wrong in ({"how": "drop"}, {"kind": "learned"}, {"scope": "sample"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            embedding(transformer("vit"), **wrong)
