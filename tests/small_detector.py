"""A small detector trained on drawn boxes, once in a session, and torchvision's detectors small enough for tests."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torchvision
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from whatwhere.data.boxes import Boxes
from whatwhere.data.drawn_boxes import drawn_boxes
from whatwhere.models.detectors import detector
from whatwhere.models.load import load_model
from whatwhere.models.seeding import seeded
from whatwhere.network import Network
from whatwhere.training.fit import fit
from whatwhere.training.recipes import recipes

WIDTH = 0.5
DENSE: dict[str, Any] = {"retinanet": RetinaNet, "fcos": FCOS}
RECIPE = replace(recipes["boxes"], epochs=7, batch_size=8)
KINDS = ("retinanet", "fcos", "ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn")


@cache
def pictures() -> Boxes:
    return drawn_boxes(train=192, test=60)


@cache
def trained() -> Network:
    net = load_model("ssd/small", width=WIDTH)
    fit(net, pictures().train, RECIPE, device="cpu")
    return net


@cache
def of_torchvision(name: str) -> Network:
    """With weights from a seed that find something; at 64 pixels where the detector lets itself be told."""
    sides: dict[str, Any] = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 96}
    model = seeded(0, lambda: (_on_resnet18 if name in DENSE else _named)(name, sides))
    for thresholded in (model, getattr(model, "roi_heads", model)):
        if hasattr(thresholded, "score_thresh"):
            thresholded.score_thresh = 0.0
    return detector(model.eval(), f"torchvision/{name}")


def _named(name: str, sides: dict[str, Any]) -> Any:
    return torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=4, **sides)


def _on_resnet18(name: str, sides: dict[str, Any]) -> Any:
    """As retinanet_resnet50_fpn and fcos_resnet50_fpn, on a smaller backbone."""
    more = LastLevelP6P7(256, 256)
    options = {"weights": None, "returned_layers": [2, 3, 4], "extra_blocks": more}
    return DENSE[name](resnet_fpn_backbone(backbone_name="resnet18", **options), 4, **sides)


def random_pictures(n: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(3))
