"""A small single-shot detector for drawn pictures: torchvision's SSD on a few convolutions."""

from __future__ import annotations

from typing import Any

from torch import nn

from whatwhere.errors import InputError, unknown
from whatwhere.models.detectors import BACKGROUND, detector
from whatwhere.models.seeding import seeded
from whatwhere.network import Network

SIDE = 64  # pixels of the pictures that it takes; others are resized
STEP = 8  # pixels from one position of its map to the next
CLASSES = 4  # those of drawn/boxes
SCALES, RATIO = (0.28, 0.4), 1.5  # of the boxes that it starts from: shares of the picture; width over height
MEAN, STD = 0.5, 0.25
NAMES = ("small",)


class Body(nn.Sequential):
    """Convolutions of stride 8; the last map, behind a ReLU, is all that the head sees.

    Args:
        width: channels of the last map.
    """

    def __init__(self, width: int) -> None:
        narrow, half = max(1, width // 4), max(1, width // 2)
        plan = ((3, narrow, 2), (narrow, half, 1), (half, half, 2), (half, width, 1), (width, width, 2))
        super().__init__(*(_layer(*each) for each in (*plan, (width, width, 1))))
        self.out_channels = [width]


def _layer(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def small_ssd(
    name: str, *, pretrained: bool = False, classes: int | None = None, width: float = 1.0, seed: int = 0
) -> Network:
    """The detector by name.

    Its head looks at one position at a time (1 x 1 convolutions), so that it says of a position of the last map what it
    holds, whatever its neighbours are: where positions of the map trade places, so do its boxes.

    Args:
        name: `small`.
        pretrained: there are no weights to download.
        classes: of objects, without the background; 4 if not given.
        width: factor of the channels, 64 in the last map.
        seed: of the initial weights.

    Raises:
        InputError: for another name, or `pretrained`.
    """
    if name not in NAMES:
        raise unknown("model", f"ssd/{name}", [f"ssd/{n}" for n in NAMES])
    if pretrained:
        raise InputError(f"ssd/{name} has no weights to download; train it (whatwhere train) and give weights=FILE.")
    count = BACKGROUND + (CLASSES if classes is None else classes)
    module = seeded(seed, lambda: _built(max(1, round(64 * width)), count))
    return detector(module.eval(), f"ssd/{name}")


def _built(width: int, classes: int) -> nn.Module:
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    starts = DefaultBoxGenerator([[RATIO]], scales=list(SCALES), steps=[STEP])
    options: dict[str, Any] = {"image_mean": [MEAN] * 3, "image_std": [STD] * 3, "detections_per_img": 100}
    model: nn.Module = SSD(Body(width), starts, (SIDE, SIDE), classes, **options)
    each = starts.num_anchors_per_location()[0]
    for head, numbers in (("classification_head", classes), ("regression_head", 4)):
        layers: Any = model.get_submodule(f"head.{head}.module_list")
        layers[0] = nn.Conv2d(width, each * numbers, 1)
    return model
