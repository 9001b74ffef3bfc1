"""Tiny networks of transformers' with drawn weights, in folders as save_pretrained writes them: no download."""

from pathlib import Path
from typing import Any

import torch

SIDE = 32
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
WIDTHS = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
SQUARE = {"height": SIDE, "width": SIDE}


def kinds() -> dict[str, tuple[Any, Any, Any, Any]]:
    """By name: the class, its configuration, the class of its image processor, and that one's options."""
    import transformers as t

    short = {"size": {"shortest_edge": 36}, "crop_size": SQUARE}
    return {
        "vit": (
            t.ViTForImageClassification,
            t.ViTConfig(**SIZES, intermediate_size=32, num_labels=10),
            t.ViTImageProcessor,
            {"size": SQUARE},
        ),
        "dinov2": (
            t.Dinov2WithRegistersModel,
            t.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=4),
            t.BitImageProcessor,
            short,
        ),
        "clip": (t.CLIPVisionModel, t.CLIPVisionConfig(**SIZES, intermediate_size=32), t.CLIPImageProcessor, short),
        "convnext": (
            t.ConvNextV2ForImageClassification,
            t.ConvNextV2Config(**WIDTHS, num_labels=10, image_size=SIDE),
            t.ConvNextImageProcessor,
            {"size": {"shortest_edge": SIDE}, "crop_pct": 0.875},
        ),
        "segformer": (
            t.SegformerForSemanticSegmentation,
            t.SegformerConfig(**WIDTHS, num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=16, num_labels=3),
            t.SegformerImageProcessor,
            {"size": SQUARE},
        ),
    }


def write(folder: Path, kind: str) -> Path:
    """A network of a kind and its processor, in a folder."""
    make, config, processor, options = kinds()[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make(config).save_pretrained(folder)
    processor(**options).save_pretrained(folder)
    return folder
