"""Networks by name, with the preprocessing they expect and, if given, weights from a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from whatwhere.errors import InputError, downloading, unknown
from whatwhere.fingerprints import fingerprint
from whatwhere.models.seeding import seeded
from whatwhere.models.weights import load_weights
from whatwhere.network import Network, Preprocessing

CIFAR100 = {"mean": (0.5071, 0.4865, 0.4409), "std": (0.2673, 0.2564, 0.2762)}  # of the training pictures


def load_model(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    classes: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    strict: bool = True,
) -> Network:
    """A network by name.

    >>> ww.load_model("timm/resnet18", pretrained=True)
    >>> ww.load_model("torchvision/vgg16_bn", weights="vgg16_bn.safetensors")
    >>> ww.load_model("cifar/vgg16", classes=100, width=0.5)
    >>> ww.load_model("pspnet/resnet18", classes=11, width=0.5)              # segmentation

    Args:
        name: `timm/…`, `torchvision/…` (its segmentation networks too), one of the papers' `cifar/…` networks,
            `pspnet/…` with a timm ResNet's name, or `smp/architecture/encoder` of segmentation_models_pytorch.
        weights: a `.safetensors` file, or a PyTorch checkpoint that holds only tensors.
        pretrained: download the library's own weights.
        classes: number of scores; None is the library's default (1000), 100 for `cifar/…`, 21 for segmentation.
        width: width factor, of `cifar/…` and `pspnet/…` only.
        seed: of the initial weights.
        strict: the file must hold exactly the network's tensors.

    Returns:
        The network in evaluation mode, with its preprocessing.

    Raises:
        InputError: for an unknown name (with the nearest ones), or weights that do not fit.
    """
    family, _, rest = name.partition("/")
    if family not in _FAMILIES or not rest:
        raise unknown("model", name, [f"{f}/…" for f in _FAMILIES] + [f"cifar/{n}" for n in _cifar().CIFAR_MODELS])
    if width <= 0 or (classes is not None and classes < 1):
        raise InputError(f"width={width}, classes={classes}: give a width above 0, and at least one class.")
    if width != 1.0 and family not in ("cifar", "pspnet"):
        raise InputError(f"width={width} is for cifar/… and pspnet/… networks; the width of {name} is fixed.")
    net = _FAMILIES[family](rest, pretrained=pretrained, classes=classes, width=width, seed=seed)
    if weights is not None:
        load_weights(net.module, weights, strict=strict)
    elif not pretrained:
        net.drawn = fingerprint(net.module)
    net.module.eval()
    return net


# timm and torchvision take seconds to import, and other families and --help do not need them.


def _cifar() -> Any:
    from whatwhere.models import cifar

    return cifar


def _from_timm(name: str, *, pretrained: bool, classes: int | None, width: float, seed: int) -> Network:
    import timm
    from timm.data.config import resolve_data_config

    if not timm.is_model(name.split(".")[0]):
        raise unknown("model", f"timm/{name}", [f"timm/{n}" for n in timm.list_models()])
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    try:
        with downloading("timm", f"timm/{name}"):
            module = seeded(seed, lambda: timm.create_model(name, pretrained=pretrained, **options))
    except RuntimeError as error:
        if "No pretrained weights" in str(error):
            raise InputError(f"pretrained=True: timm has no weights of {name}; give weights=FILE instead.") from error
        if "tag" not in str(error):
            raise
        tagged = timm.list_models(f"{name.split('.')[0]}.*", pretrained=True)
        raise unknown("model", f"timm/{name}", [f"timm/{n}" for n in tagged]) from error
    config = resolve_data_config(model=module)
    preprocessing = Preprocessing(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        size=tuple(config["input_size"][1:]),
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
        source=_timm_source(name, config),
    )
    return Network(module, preprocessing, f"timm/{name}", tuple(config["input_size"]))


def _timm_source(name: str, config: dict[str, Any]) -> str:
    mode = config["crop_mode"]
    note = "" if mode == "center" else f"; its crop_mode {mode!r} is replaced by a centre crop"
    return f"timm's configuration of {name}{note}"


def _from_torchvision(name: str, *, pretrained: bool, classes: int | None, width: float, seed: int) -> Network:
    import torchvision

    segmenters = torchvision.models.list_models(module=torchvision.models.segmentation)
    if name in segmenters:
        return _segmenter("torchvision")(name, pretrained=pretrained, classes=classes, width=width, seed=seed)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown("model", f"torchvision/{name}", [f"torchvision/{n}" for n in [*known, *segmenters]])
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if pretrained:
        options["weights"] = "DEFAULT"
    with downloading("torchvision", f"torchvision/{name}"):
        module = seeded(seed, lambda: torchvision.models.get_model(name, **options))
    preprocessing = _torchvision_preprocessing(name, pretrained)
    return Network(module, preprocessing, f"torchvision/{name}", (3, *(preprocessing.size or (224, 224))))


def _torchvision_preprocessing(name: str, pretrained: bool) -> Preprocessing:
    import torchvision

    # A model's presets differ: ResNet-50 resizes to 256 for its first weights, to 232 for its default ones.
    known = torchvision.models.get_model_weights(name)
    weights = known["DEFAULT"] if pretrained else next(iter(known))
    preset = weights.transforms()
    crop = preset.crop_size[0]
    return Preprocessing(
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        size=(crop, crop),
        crop_pct=crop / preset.resize_size[0],
        interpolation=preset.interpolation.value,
        source=f"torchvision's preset of {name}, {weights.name}",
    )


def _from_cifar(name: str, *, pretrained: bool, classes: int | None, width: float, seed: int) -> Network:
    models = _cifar().CIFAR_MODELS
    if name not in models:
        raise unknown("model", f"cifar/{name}", [f"cifar/{n}" for n in models])
    if pretrained:
        raise InputError(f"cifar/{name} has no weights to download; train it (whatwhere train) and give weights=FILE.")
    module = _cifar().make(name, seed=seed, classes=100 if classes is None else classes, width=width)
    preprocessing = Preprocessing(mean=CIFAR100["mean"], std=CIFAR100["std"], source="CIFAR-100's training pictures")
    return Network(module, preprocessing, f"cifar/{name}", (3, 32, 32))


def _segmenter(family: str) -> Callable[..., Network]:
    def build(name: str, **options: Any) -> Network:
        from whatwhere.models import segmenters

        return segmenters.FAMILIES[family](name, **options)

    return build


_FAMILIES: dict[str, Callable[..., Network]] = {
    "timm": _from_timm,
    "torchvision": _from_torchvision,
    "cifar": _from_cifar,
    "pspnet": _segmenter("pspnet"),
    "smp": _segmenter("smp"),
}
