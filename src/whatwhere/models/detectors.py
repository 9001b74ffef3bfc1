"""Detectors: torchvision's, with one tensor of pictures for an input, and a forward that a dataflow can be read from.

The convolutions and heads are torchvision's modules under torchvision's names, so that its weights fit. What follows
them depends on the pictures' values (which boxes are kept), so that it stands in one module of its own, `decide`, into
which the dataflow does not look. In training the network gives an `Undecided`, whose losses are those of torchvision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from whatwhere.data.boxes import Objects
from whatwhere.errors import InputError, downloading, unknown
from whatwhere.models.seeding import seeded
from whatwhere.network import Network, Preprocessing

Detections: TypeAlias = list[dict[str, Tensor]]
Shape: TypeAlias = Sequence[int]
OWN_RESIZE = "transform"  # torchvision's name of what resizes and normalises
BACKGROUND = 1  # torchvision counts classes from 1
MORE = ("MaskRCNN", "KeypointRCNN")  # whose losses need more than boxes


class Detector(nn.Module):
    """A torchvision detector on pictures (N, 3, H, W), scaled to [0, 1].

    >>> net = Detector(torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None))
    >>> net.eval()(pictures)[0].keys()     # boxes (n, 4), scores (n,), labels (n,) from 0: one dict for each picture

    Args:
        model: with a `transform`, a `backbone`, and a `head` or `rpn` and `roi_heads`; it shares its layers.

    Raises:
        InputError: for another model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not is_detector(model):
            raise InputError(
                f"model is a {type(model).__name__}; a detector is one of torchvision's, with a transform, a backbone, "
                "and a head, or rpn and roi_heads."
            )
        self.fitted = Fitted(model.get_submodule(OWN_RESIZE))
        for name, child in model.named_children():
            if name != OWN_RESIZE:
                self.add_module(name, child)
        self.decide = (Proposed if hasattr(model, "roi_heads") else Dense)(self)
        self.__dict__["_given"] = (model,)  # not a child: its layers are here already
        self.training = model.training

    def forward(self, pictures: Tensor) -> Detections | Undecided:
        """Boxes in pixels of the given pictures, for each picture; in training, what losses follow from."""
        if self.training:
            return Undecided(self, pictures)
        fitted = self.fitted(pictures)
        features: Any = self.get_submodule("backbone")(fitted)
        if not isinstance(features, Mapping):
            features = {"0": features}
        # Sizes alone, so that the dataflow sees nothing of the pictures go round the convolutions.
        shapes = (pictures.shape, fitted.shape)
        if isinstance(self.decide, Proposed):
            return self.decide(*shapes, dict(features))
        return self.decide(*shapes, list(features.values()), self.get_submodule("head")(list(features.values())))

    @property
    def given(self) -> nn.Module:
        """Torchvision's model, of the layers that are here now."""
        model: nn.Module = self.__dict__["_given"][0]
        model._modules.update({n: m for n, m in self._modules.items() if n in model._modules})
        model.training = self.training
        return model


class Undecided:
    """Pictures on their way through a detector in training: their losses need what is in them.

    Args:
        detector: in training mode.
        pictures: (N, 3, H, W).
    """

    def __init__(self, detector: Detector, pictures: Tensor) -> None:
        self.detector, self.pictures = detector, pictures

    def losses(self, objects: Sequence[Objects]) -> dict[str, Tensor]:
        """Torchvision's losses; objects that are difficult or a crowd are left out, so that they count as background.

        Args:
            objects: those in each picture.

        Raises:
            InputError: for a detector that learns more than boxes.
        """
        kind = type(self.detector.given).__name__
        if kind in MORE:
            raise InputError(f"a {kind} learns more than boxes, which these pictures lack; train a detector of boxes.")
        targets = [{"boxes": o.boxes[o.counted], "labels": o.labels[o.counted] + BACKGROUND} for o in objects]
        found: dict[str, Tensor] = self.detector.given(list(self.pictures), targets)
        return found


class Fitted(nn.Module):
    """Pictures as a detector resizes, normalises and pads them: (N, 3, H, W) to (N, 3, H', W').

    Args:
        transform: torchvision's `GeneralizedRCNNTransform`.
    """

    whole = True  # the dataflow does not look into it

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, pictures: Tensor) -> Tensor:
        """One batch; all pictures have one size."""
        found: Tensor = self.transform(list(pictures))[0].tensors
        return found

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size of a picture before it is padded."""
        blank = torch.empty(3, height, width, device="meta")
        rows, columns = self.transform.resize(blank, None)[0].shape[-2:]  # type: ignore[operator]
        return int(rows), int(columns)

    def batch(self, given: Shape, fitted: Shape) -> Any:
        """Torchvision's `ImageList` of such pictures, without values, with their sizes before they were padded."""
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.empty(*fitted, device="meta"), [self.size(*given[-2:])] * given[0])

    def put_back(self, found: Detections, given: Shape) -> Detections:
        """Detections in pixels of the pictures as they were given, with classes from 0."""
        height, width = given[-2:]
        before, after = [self.size(height, width)] * len(found), [(height, width)] * len(found)
        back = self.transform.postprocess(found, before, after)  # type: ignore[operator]
        return [_from_zero(each) for each in back]


def _from_zero(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without torchvision's background class, which a few detectors have scores of."""
    kept = found["labels"] >= BACKGROUND
    return {**{k: v[kept] for k, v in found.items()}, "labels": found["labels"][kept] - BACKGROUND}


class _Decides(nn.Module):
    """What makes boxes of a detector's maps: it depends on their values, and the dataflow does not look into it.

    Args:
        detector: around it.
    """

    whole = True
    decides = True  # what enters it is what a detector computes; what leaves it is chosen among that

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.__dict__["_around"] = (detector,)  # not a child

    @property
    def detector(self) -> Detector:
        """The detector around it."""
        found: Detector = self.__dict__["_around"][0]
        return found


class Dense(_Decides):
    """Boxes of a detector whose head gives scores and boxes for each position (RetinaNet, FCOS, SSD)."""

    def forward(self, given: Shape, fitted: Shape, features: list[Tensor], outputs: dict[str, Tensor]) -> Detections:
        """As torchvision's models do it in evaluation, for pictures (N, 3, H, W) that were fitted to another size."""
        around, model = self.detector.fitted, self.detector.given
        images = around.batch(given, fitted)
        anchors = model.anchor_generator(images, features)  # type: ignore[operator]
        sizes = images.image_sizes
        if hasattr(model, "neg_to_pos_ratio"):  # SSD: one softmax over all levels
            return around.put_back(model.postprocess_detections(outputs, anchors, sizes), given)  # type: ignore[operator]
        positions = [f.shape[2] * f.shape[3] for f in features]
        each = outputs["cls_logits"].shape[1] // sum(positions)
        levels = [n * each for n in positions]
        by_level = {name: list(values.split(levels, dim=1)) for name, values in outputs.items()}
        split = [list(a.split(levels)) for a in anchors]
        return around.put_back(model.postprocess_detections(by_level, split, sizes), given)  # type: ignore[operator]


class Proposed(_Decides):
    """Boxes of a detector that looks at regions it proposes itself (Faster R-CNN)."""

    def forward(self, given: Shape, fitted: Shape, features: dict[str, Tensor]) -> Detections:
        """As torchvision's models do it in evaluation, for pictures (N, 3, H, W) that were fitted to another size."""
        around, model = self.detector.fitted, self.detector.given
        images, maps = around.batch(given, fitted), OrderedDict(features)
        proposals, _ = model.rpn(images, maps)  # type: ignore[operator]
        found, _ = model.roi_heads(maps, proposals, images.image_sizes)  # type: ignore[operator]
        return around.put_back(found, given)


def is_detector(module: Any) -> bool:
    """Whether a module is one of torchvision's detectors, as torchvision makes it."""
    has_head = hasattr(module, "head") or (hasattr(module, "rpn") and hasattr(module, "roi_heads"))
    return all(hasattr(module, name) for name in (OWN_RESIZE, "backbone")) and has_head


def detector(model: nn.Module, name: str = "detector", classes: Sequence[str] = ()) -> Network:
    """A torchvision detector as a network; it resizes and normalises pictures by itself, as torchvision has it.

    >>> net = ww.detector(torchvision.models.detection.retinanet_resnet50_fpn_v2(num_classes=5))    # 4, and background
    >>> ww.need.curve(net, ww.load_data("drawn/boxes"), reach=1)

    Args:
        model: of torchvision's; the network shares its layers.
        name: of the network.
        classes: names of its classes, without the background.
    """
    own: Any = getattr(model, OWN_RESIZE, None)
    wrapped = Detector(model)
    sides = (
        f"{own.fixed_size}" if own.fixed_size else f"short side {own.min_size[-1]}, long side at most {own.max_size}"
    )
    source = f"scaled to 0..1; the detector resizes ({sides}) and normalises ({own.image_mean}, {own.image_std}) itself"
    size = own.fixed_size or (224, 224)
    preprocessing = Preprocessing(mean=(0.0,), std=(1.0,), source=source)
    return Network(wrapped, preprocessing, name, (3, size[1], size[0]), classes=tuple(classes))


def as_network(module: nn.Module, name: str = "network") -> Network:
    """A module as a network; a detector of torchvision's as one that takes a tensor of pictures."""
    return detector(module, name) if is_detector(module) else Network(module, name=name)


def check_detector(net: Network, classes: Sequence[str]) -> None:
    """Refuse a detector as torchvision makes it, whose classes count from 1, and one of other classes.

    Args:
        net: any network.
        classes: of the pictures.

    Raises:
        InputError: saying how to make a network of it, or the first class that differs.
    """
    pairs = zip_longest(net.classes, classes, fillvalue="none")
    other = next(((i, a, b) for i, (a, b) in enumerate(pairs) if a != b), None) if net.classes else None
    if other:
        raise InputError(
            f"net={net.name!r}: its class {other[0]} is {other[1]!r}, that of the pictures {other[2]!r}; give pictures "
            "of its classes, or train it on these."
        )
    if is_detector(net.module):
        raise InputError(
            f"net={net.name!r}: its module is a {type(net.module).__name__} of torchvision's, which normalises "
            "pictures itself and counts classes from 1; give ww.detector(module), or the module as it is."
        )


def from_torchvision(name: str, *, pretrained: bool, classes: int | None, seed: int) -> Network:
    """A detector of torchvision's by name, without downloads unless its weights are wanted.

    Args:
        name: `ssdlite320_mobilenet_v3_large`, say.
        pretrained: download weights learned on COCO.
        classes: of objects, without the background; COCO's 90 if not given.
        seed: of the initial weights.

    Raises:
        InputError: for an unknown name, or another number of classes than the weights have.
    """
    import torchvision  # takes seconds to import

    known = torchvision.models.list_models(module=torchvision.models.detection)
    if name not in known:
        raise unknown("model", f"torchvision/{name}", [f"torchvision/{n}" for n in known])
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    categories = weights.meta["categories"][BACKGROUND:]
    if pretrained and classes not in (None, len(categories)):
        raise InputError(
            f"torchvision/{name}: its weights know {len(categories)} classes, not classes={classes}; leave one of "
            "pretrained and classes out."
        )
    count = BACKGROUND + (len(categories) if classes is None else classes)
    options: dict[str, Any] = {"weights": weights} if pretrained else {"weights": None, "num_classes": count}
    with downloading("torchvision", f"torchvision/{name}"):
        model = seeded(seed, lambda: torchvision.models.get_model(name, weights_backbone=None, **options))
    return detector(model.eval(), f"torchvision/{name}", categories if pretrained else ())
