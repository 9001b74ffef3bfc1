"""Small transformers of every make, for tests: a few tokens, two blocks, weights drawn with a seed."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from whatwhere.network import Network

BLOCKS = {"embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}


def vit(name: str = "vit_tiny_patch16_224", size: int = 32, **options: object) -> Callable[[], nn.Module]:
    """Of timm, with 4 x 4 patch tokens."""
    return lambda: timm.create_model(name, **{"img_size": size, "patch_size": size // 4, **BLOCKS, **options})


def swin(name: str) -> Callable[[], nn.Module]:
    """Of timm, with windows of 4 x 4, shifted in the second block."""
    sizes = {"img_size": 32, "patch_size": 4, "window_size": 4, "embed_dim": 8}
    return lambda: timm.create_model(name, **sizes, depths=(2, 1), num_heads=(2, 2), num_classes=5)


def of_torchvision() -> nn.Module:
    return VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48, num_classes=5)


TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    "vit": vit(),
    "none": vit(pos_embed="none"),
    "pooled": vit(class_token=False, global_pool="avg"),
    "deit": vit("deit_tiny_distilled_patch16_224"),
    "deit3": vit("deit3_small_patch16_224"),
    "registers": vit("vit_small_patch14_reg4_dinov2", 28),
    "clip": vit("vit_base_patch32_clip_224"),
    "eva": vit("eva02_tiny_patch14_224", 28),
    "dinov3": vit("vit_small_patch16_dinov3"),
    "beit": vit("beit_base_patch16_224"),
    "torchvision": of_torchvision,
    "swin": swin("swin_tiny_patch4_window7_224"),
    "swinv2": swin("swinv2_tiny_window8_256"),
    "torchvision-swin": lambda: SwinTransformer([4, 4], 8, [2, 1], [2, 2], [4, 4], num_classes=5),
}


def transformer(name: str, seed: int = 0) -> Network:
    """One of them, with weights of a trained one's size: nothing is zero, and attention is uneven."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TRANSFORMERS[name]()
        for parameter in module.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return Network(module.eval(), input_size=(3, 28, 28) if name in ("registers", "eva") else (3, 32, 32))


Tokens = Callable[[int, Tensor], Tensor]


def by_hand(vit: Any, x: Tensor, before: Tokens = lambda block, tokens: tokens) -> Tensor:
    """The scores of one of timm's plain ViTs, from its weights alone: patch by patch, head by head.

    Args:
        vit: with a class token, a position embedding or none, and no layer scale.
        x: (N, 3, H, W).
        before: what becomes of the tokens (N, 1 + positions, C) before each block, by its number.
    """
    side = vit.patch_embed.patch_size[0]
    places = [(i, j) for i in range(0, x.shape[2], side) for j in range(0, x.shape[3], side)]
    kernel = vit.patch_embed.proj.weight.flatten(1)
    patches = [x[:, :, i : i + side, j : j + side].flatten(1) @ kernel.t() for i, j in places]
    tokens = torch.stack(patches, 1) + vit.patch_embed.proj.bias
    tokens = torch.cat([vit.cls_token.expand(len(x), -1, -1), tokens], 1)
    if vit.pos_embed is not None:
        tokens = tokens + vit.pos_embed
    for number, block in enumerate(vit.blocks):
        tokens = before(number, tokens)
        tokens = tokens + _attention(block.attn, _normed(block.norm1, tokens))
        hidden = _normed(block.norm2, tokens) @ block.mlp.fc1.weight.t() + block.mlp.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        tokens = tokens + hidden @ block.mlp.fc2.weight.t() + block.mlp.fc2.bias
    return _normed(vit.norm, tokens)[:, 0] @ vit.head.weight.t() + vit.head.bias


def _normed(norm: Any, x: Tensor) -> Tensor:
    apart = x - x.mean(-1, keepdim=True)
    return apart / (apart.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def _attention(attn: Any, x: Tensor) -> Tensor:
    q, k, v = (x @ attn.qkv.weight.t() + attn.qkv.bias).chunk(3, -1)
    width = q.shape[-1] // attn.num_heads
    heads = [
        torch.softmax(q[..., a : a + width] @ k[..., a : a + width].mT / width**0.5, -1) @ v[..., a : a + width]
        for a in range(0, q.shape[-1], width)
    ]
    return torch.cat(heads, -1) @ attn.proj.weight.t() + attn.proj.bias
