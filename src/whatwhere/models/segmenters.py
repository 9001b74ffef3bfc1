"""Segmentation networks by name: PSPNet, torchvision's, segmentation_models_pytorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from whatwhere.errors import InputError, downloading, unknown
from whatwhere.models.pspnet import PSPNet
from whatwhere.models.seeding import seeded
from whatwhere.network import Network, Preprocessing

IMAGENET = Preprocessing(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), source="ImageNet's mean and standard deviation"
)
CLASSES = 21  # Pascal VOC's, torchvision's default


def _pspnet(name: str, *, pretrained: bool, classes: int | None, width: float, seed: int) -> Network:
    wanted = CLASSES if classes is None else classes
    module = seeded(seed, lambda: PSPNet(name, classes=wanted, width=width, pretrained=pretrained))
    return Network(module.eval(), IMAGENET, f"pspnet/{name}", (3, 96, 128))


def _torchvision(
    name: str, *, pretrained: bool, classes: int | None, width: float, seed: int, layers_of_pretrained: bool = False
) -> Network:
    import torchvision  # takes seconds to import

    if pretrained and classes not in (None, CLASSES):
        raise InputError(
            f"torchvision/{name}: its weights give {CLASSES} scores, not classes={classes}; leave one of pretrained "
            "and classes out."
        )
    options: dict[str, Any] = {"weights": "DEFAULT"} if pretrained else {"weights": None, "weights_backbone": None}
    if classes is not None:
        options["num_classes"] = classes
    if layers_of_pretrained and not name.startswith("lraspp"):
        options["aux_loss"] = True  # torchvision's weights have this head, and it is left out without them
    with downloading("torchvision", f"torchvision/{name}"):
        module = seeded(seed, lambda: torchvision.models.get_model(name, **options))
    return Network(module.eval(), IMAGENET, f"torchvision/{name}", (3, 96, 128))


def _smp(name: str, *, pretrained: bool, classes: int | None, width: float, seed: int) -> Network:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise InputError(f"smp/{name} needs a package: pip install segmentation-models-pytorch.") from error
    architecture, _, encoder = name.partition("/")
    known = smp.MODEL_ARCHITECTURES_MAPPING
    if architecture.lower() not in known:
        raise unknown("model", f"smp/{name}", [f"smp/{a}/resnet18" for a in known])
    weights, wanted = "imagenet" if pretrained else None, CLASSES if classes is None else classes
    build = known[architecture.lower()]
    try:
        with downloading("segmentation_models_pytorch", f"smp/{name}"):
            module = seeded(seed, lambda: build(encoder or "resnet18", encoder_weights=weights, classes=wanted))
    except KeyError as error:
        encoders = smp.encoders.get_encoder_names()
        if encoder in encoders:
            raise InputError(
                f"pretrained=True: segmentation_models_pytorch has no ImageNet weights of {encoder}; leave pretrained "
                "out and give weights=FILE instead."
            ) from error
        raise unknown("model", f"smp/{name}", [f"smp/{architecture}/{e}" for e in encoders]) from error
    return Network(module.eval(), IMAGENET, f"smp/{name}", (3, 96, 128))


FAMILIES: dict[str, Callable[..., Network]] = {"pspnet": _pspnet, "torchvision": _torchvision, "smp": _smp}
