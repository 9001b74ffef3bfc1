"""A small vision transformer for pictures of 32 x 32, with a learned position embedding and without any."""

from timm.models import create_model

import whatwhere as ww
from whatwhere.models.built import CIFAR100

SIZE, PATCH = 32, 4


def learned() -> ww.Network:
    """Position embedding learned, added to the class token and the 64 patch tokens."""
    return _network("learn")


def none() -> ww.Network:
    """The same layers without position embedding: all that tells positions apart are the pixels."""
    return _network("none")


def _network(pos_embed: str) -> ww.Network:
    module = create_model(
        "vit_tiny_patch16_224",
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=96,
        depth=4,
        num_heads=3,
        num_classes=100,
        pos_embed=pos_embed,
    )
    preprocessing = ww.Preprocessing(mean=CIFAR100["mean"], std=CIFAR100["std"], source="CIFAR-100's training pictures")
    return ww.Network(module, preprocessing, f"vit-{pos_embed}", (3, SIZE, SIZE))
