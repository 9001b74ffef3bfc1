"""Networks made by name: the libraries' and the papers', with the preprocessing they expect."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from whatwhere.data.memory import available
from whatwhere.errors import InputError, downloading, unknown
from whatwhere.imported import is_import_path
from whatwhere.models.factories import network_at
from whatwhere.models.seeding import seeded
from whatwhere.network import Base, Network, Preprocessing
from whatwhere.surgery import surgeries

UNITS = {"PB": 1e15, "TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}
MANY = 100_000  # classes, from which on the memory of the network is checked
CIFAR100 = {"mean": (0.5071, 0.4865, 0.4409), "std": (0.2673, 0.2564, 0.2762)}  # of the training pictures
OWN = ("package.module:function", "a folder that ww.save wrote")  # what may be given beside the names of libraries


def build(
    name: str,
    *,
    pretrained: bool = False,
    classes: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    layers_of_pretrained: bool = False,
) -> Network:
    """A network by name or import path, which says how it was made.

    Args:
        name: as for `load_model`, but for folders.
        pretrained: download the library's own weights.
        classes: number of scores.
        width: width factor.
        seed: of the initial weights.
        layers_of_pretrained: with the layers that the library's weights ask for, but without these weights.

    Raises:
        InputError: as `load_model`.
    """
    make = _of_a_function if is_import_path(name) else _named
    layers = {"layers_of_pretrained": True} if layers_of_pretrained and is_of_torchvision(name) else {}
    net = make(name, pretrained=pretrained, classes=classes, width=width, seed=seed, **layers)
    net.base = Base(name, classes, float(width), seed, pretrained, len(surgeries(net)))
    return net


def is_of_a_library(name: str) -> bool:
    """Whether a name begins as those of libraries and papers do."""
    return name.partition("/")[0] in _FAMILIES and "/" in name


def is_of_torchvision(name: str) -> bool:
    """Whether the network is torchvision's, whose layers depend on the weights."""
    return name.startswith("torchvision/")


def _of_a_function(name: str, *, pretrained: bool, classes: int | None, width: float, seed: int) -> Network:
    if pretrained or width != 1.0:
        raise InputError(
            f"pretrained={pretrained}, width={width}: these are for networks of libraries; {name} decides them itself."
        )
    return network_at(name, classes=classes, seed=seed)


def _named(name: str, *, pretrained: bool, classes: int | None, width: float, seed: int, **layers: bool) -> Network:
    family, _, rest = name.partition("/")
    if family not in _FAMILIES or not rest:
        papers = (f"cifar/{n}" for n in _cifar().CIFAR_MODELS)
        raise unknown("model", name, [*(f"{f}/…" for f in _FAMILIES), *OWN, *papers], instead=_meant(rest))
    if width != 1.0 and family not in ("cifar", "pspnet", "ssd"):
        raise InputError(f"width={width} is for cifar/…, pspnet/… and ssd/… networks; the width of {name} is fixed.")
    make = _FAMILIES[family]
    if width > 1 or (classes or 0) > MANY:
        options = {"classes": classes, "width": width, "seed": seed}
        _check_fits(name, width, classes, lambda: make(rest, pretrained=False, **options))
    return make(rest, pretrained=pretrained, classes=classes, width=width, seed=seed, **layers)


def _meant(rest: str) -> dict[str, list[str]]:
    """What to type for a name without its family, or with another: every family's is near, and so the right one's."""
    if rest:
        return {f"{family}/{rest}": [f"{family}/{rest}"] for family in _FAMILIES}
    import timm
    import torchvision

    found = {n: [f"timm/{n}"] for n in timm.list_models()}
    for name in torchvision.models.list_models():
        found.setdefault(name, []).append(f"torchvision/{name}")
    return found | {n: [f"cifar/{n}", *found.get(n, ())] for n in _cifar().CIFAR_MODELS}


def _check_fits(name: str, width: float, classes: int | None, build: Callable[[], Network]) -> None:
    """Refuse a network that does not fit into memory, before any of it is allocated."""
    given = f"width={width:g}" + (f", classes={classes}" if classes else "")
    try:
        with torch.device("meta"):  # shapes alone
            module = build().module
    except InputError:
        raise
    except (RuntimeError, OverflowError, TypeError, ValueError) as error:
        if re.search("overflow|too large|out of range", str(error), re.IGNORECASE):
            raise InputError(
                f"{given}: {name} would have tensors of more than 9 EB each, and {_size(available())} of memory are "
                "free; give a smaller width or fewer classes."
            ) from error
        return  # it cannot be built of shapes alone, so its size is not known before
    numbers = sum(p.numel() for p in module.parameters())
    need, free = sum(p.numel() * p.element_size() for p in module.parameters()), available()
    if need > free:
        raise InputError(
            f"{given}: {name} would have {numbers:.3g} parameters, which take {_size(need)}, and {_size(free)} of "
            "memory are free; give a smaller width or fewer classes."
        )


def _size(count: int) -> str:
    """Bytes, in the largest unit of which there is one."""
    unit = next((u for u in ("PB", "TB", "GB", "MB") if count >= UNITS[u]), "kB")
    return f"{count / UNITS[unit]:,.1f} {unit}"


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


def _from_torchvision(
    name: str, *, pretrained: bool, classes: int | None, width: float, seed: int, **layers: bool
) -> Network:
    import torchvision

    segmenters = torchvision.models.list_models(module=torchvision.models.segmentation)
    if name in segmenters:
        return _segmenter("torchvision")(name, pretrained=pretrained, classes=classes, width=width, seed=seed, **layers)
    detectors = torchvision.models.list_models(module=torchvision.models.detection)
    if name in detectors:
        from whatwhere.models.detectors import from_torchvision

        return from_torchvision(name, pretrained=pretrained, classes=classes, seed=seed)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown("model", f"torchvision/{name}", [f"torchvision/{n}" for n in [*known, *segmenters, *detectors]])
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    options |= {"weights": "DEFAULT"} if pretrained else _layers_of_pretrained(name) if layers else {}
    with downloading("torchvision", f"torchvision/{name}"):
        module = seeded(seed, lambda: torchvision.models.get_model(name, **options))
    if layers and name == "googlenet":  # its weights are for more heads than are used
        module.aux_logits, module.aux1, module.aux2 = False, None, None
    preprocessing = _torchvision_preprocessing(name, pretrained)
    return Network(module, preprocessing, f"torchvision/{name}", (3, *(preprocessing.size or (224, 224))))


def _layers_of_pretrained(name: str) -> dict[str, Any]:
    """The options that torchvision sets beside its weights."""
    import torchvision

    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True, "init_weights": False}
    meta = torchvision.models.get_model_weights(name)["DEFAULT"].meta
    return {"image_size": meta["min_size"][0]} if name.startswith("vit_") else {}


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


def _ssd(name: str, **options: Any) -> Network:
    from whatwhere.models.small_ssd import small_ssd

    return small_ssd(name, **options)


def _segmenter(family: str) -> Callable[..., Network]:
    def build(name: str, **options: Any) -> Network:
        from whatwhere.models import segmenters

        return segmenters.FAMILIES[family](name, **options)

    return build


def _from_hugging_face(name: str, **options: Any) -> Network:
    from whatwhere.models.hugging_face import from_hugging_face

    return from_hugging_face(name, **options)


_FAMILIES: dict[str, Callable[..., Network]] = {
    "timm": _from_timm,
    "torchvision": _from_torchvision,
    "hf": _from_hugging_face,
    "cifar": _from_cifar,
    "pspnet": _segmenter("pspnet"),
    "smp": _segmenter("smp"),
    "ssd": _ssd,
}
