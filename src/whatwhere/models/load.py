"""`load_model`: networks by name or from a folder, and, if given, weights from a file."""

from __future__ import annotations

import math
import os
from numbers import Real
from pathlib import Path

from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.imported import is_import_path
from whatwhere.models.built import build
from whatwhere.models.factories import check_enough_scores
from whatwhere.models.hugging_face import FAMILY, is_folder_of_hugging_face
from whatwhere.models.opened import opened, saved_at
from whatwhere.models.weights import load_weights
from whatwhere.network import Network


def load_model(
    name: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    classes: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    strict: bool = True,
    fresh: bool = False,
) -> Network:
    """A network by name, or from a folder that `ww.save` or transformers' `save_pretrained` wrote.

    >>> ww.load_model("timm/resnet18", pretrained=True)
    >>> ww.load_model("torchvision/vgg16_bn", weights="vgg16_bn.safetensors")
    >>> ww.load_model("cifar/vgg16", classes=100, width=0.5)
    >>> ww.load_model("pspnet/resnet18", classes=11, width=0.5)              # segmentation
    >>> ww.load_model("hf/facebook/dinov2-small", pretrained=True)           # its features, without scores
    >>> ww.load_model("torchvision/ssdlite320_mobilenet_v3_large", classes=20)    # a detector
    >>> ww.load_model("small")                                               # what ww.save(net, "small") wrote

    Args:
        name: `timm/…`, `torchvision/…` (its segmentation networks and detectors too), `hf/…` with an id of Hugging
            Face's hub, one of the papers' `cifar/…` networks, `pspnet/…` with a timm ResNet's name, `ssd/small`, a
            detector for drawn pictures, `smp/architecture/encoder` of segmentation_models_pytorch, or
            `package.module:function`, a function of yours without arguments that makes the network; or a folder that
            `ww.save` or a command wrote (`./timm/x` is a folder, whatever its name), which holds its weights; or one
            with transformers' config.json, model.safetensors and preprocessor_config.json.
        weights: a `.safetensors` file, or a PyTorch checkpoint that holds only tensors; those of a folder are replaced.
        pretrained: download the library's own weights.
        classes: number of scores; None is the library's default (1000), 100 for `cifar/…`, 21 for segmentation; of a
            detector classes of objects, 90 by default, 4 for `ssd/…`. Of a folder and of a function, how many are
            needed at least.
        width: width factor, of `cifar/…`, `pspnet/…` and `ssd/…` only.
        seed: of the initial weights.
        strict: the file must hold exactly the network's tensors.
        fresh: of a folder take the layers alone, with weights drawn from `seed`; other names have such weights anyway.

    Returns:
        The network in evaluation mode, with its preprocessing.

    Raises:
        InputError: for an unknown name (with the nearest ones), a network larger than the memory, or weights that do
            not fit.
    """
    name = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(name, str):
        raise InputError(f"model={name!r}: give a name, such as 'timm/resnet18'; a module is a network as it is.")
    wide = isinstance(width, Real) and 0 < width < math.inf
    if not wide or not (classes is None or (isinstance(classes, int) and classes >= 1)):
        raise InputError(f"width={width!r}, classes={classes!r}: give a width above 0, and at least one class.")
    if folder := _folder_at(name):
        _check_options(name, pretrained, width)
        net = _in_folder(folder, fresh=fresh, seed=seed)
        check_enough_scores(net, name, classes)
    else:
        net = build(name, pretrained=pretrained, classes=classes, width=width, seed=seed)
    if weights is not None:
        net.partial = load_weights(net.module, weights, strict=strict)
    made_now = not (folder or pretrained or is_import_path(name)) or (fresh and not net.drawn)
    if net.partial or (made_now and weights is None):
        net.drawn = fingerprint(net.module)
    net.module.eval()
    return net


def _folder_at(name: str) -> Path | None:
    path = Path(name).expanduser()
    return path if is_folder_of_hugging_face(path) else saved_at(name)


def _in_folder(folder: Path, *, fresh: bool, seed: int) -> Network:
    if is_folder_of_hugging_face(folder):
        return build(f"{FAMILY}{folder}", pretrained=not fresh, seed=seed)
    return opened(folder, fresh=fresh, seed=seed)


def _check_options(name: str, pretrained: bool, width: float) -> None:
    if pretrained or width != 1.0:
        raise InputError(
            f"pretrained={pretrained}, width={width:g}: these are for networks of libraries; the folder {name} holds a "
            "network with its weights."
        )
