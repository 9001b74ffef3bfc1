"""A network together with the preprocessing it expects."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from numbers import Real
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from whatwhere.errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become the tensors a network expects.

    Wrong preprocessing is the classic false result, so it is one value that is printed and stored.

    Attributes:
        mean: per channel, of pictures scaled to [0, 1].
        std: per channel, likewise.
        size: (height, width) the network takes; None keeps the pictures' own size.
        crop_pct: share of the resized short side that the centre crop keeps (timm's meaning).
        interpolation: of the resize; always antialiased (PIL).
        source: where these numbers come from, for the record.
        channels: of the pictures as the network takes them: 1, grey; 4, with transparency; None, RGB. A `Network` sets
            it to what its module takes.
        order: of the colours as the network takes them; mean and std are in this order.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    size: tuple[int, int] | None = None
    crop_pct: float = 1.0
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    source: str = "default"
    channels: int | None = None
    order: Literal["RGB", "BGR"] = "RGB"

    def __post_init__(self) -> None:
        """Refuse what no pictures have.

        Raises:
            InputError: for means or deviations that are not of pictures scaled to [0, 1], different numbers of them, a
                size that is not (height, width), or another order of the colours than the two.
        """
        _check_scaled(self.mean, self.std)
        pair = isinstance(self.size, tuple | list) and len(self.size) == 2
        if self.size is not None and not (pair and all(isinstance(side, int) and side >= 1 for side in self.size)):
            raise InputError(f"preprocessing.size={self.size!r} must be (height, width), both at least 1.")
        if self.order not in ("RGB", "BGR"):
            raise InputError(f"preprocessing.order={self.order!r} must be 'RGB' or 'BGR'.")

    def normalise(self, images: Tensor) -> Tensor:
        """Bring the colours into order, scale bytes to [0, 1] and subtract the mean; floats are passed on as they are.

        Args:
            images: (N, C, H, W), uint8, RGB if C is 3, or a floating type that is already prepared.

        Returns:
            (N, C, H, W), float32, channels last in memory.
        """
        if images.dtype != torch.uint8:
            return images.float().contiguous(memory_format=torch.channels_last)
        images = self._coloured(images)
        if len(self.mean) not in (1, images.shape[1]):
            raise InputError(
                f"preprocessing has {len(self.mean)} channel means, the pictures have {images.shape[1]} channels; "
                "give one mean per channel, or one for all."
            )
        scales = [1 / (255 * s) for s in self.std]
        shifts = [m / s for m, s in zip(self.mean, self.std, strict=True)]
        # Made on the host and sent: torch.tensor(..., device=...) would wait for a GPU.
        scale, shift = (
            torch.tensor(v).view(1, -1, 1, 1).to(images.device, non_blocking=True) for v in (scales, shifts)
        )
        return images.to(torch.float32, memory_format=torch.channels_last).mul_(scale).sub_(shift)

    def _coloured(self, images: Tensor) -> Tensor:
        """Bytes with the channels that the network takes, in its order."""
        if self.order == "BGR" and images.shape[1] != 3:
            raise InputError(
                f"preprocessing.order='BGR' is of pictures of 3 channels, and these have {images.shape[1]}; leave it "
                "out."
            )
        if self.channels is None or images.shape[1] == self.channels:
            return images.flip(1) if self.order == "BGR" else images
        if (images.shape[1], self.channels) == (3, 1):
            return grey(images)
        raise InputError(
            f"the network takes pictures of {self.channels} channels, and these have {images.shape[1]}; give pictures "
            f"of {self.channels} channels, or floats that are prepared already."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a result file."""
        usual = {"channels": None, "order": "RGB"}  # left out: results from before they were there stay as they are
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}


def grey(images: Tensor) -> Tensor:
    """The luminance of RGB bytes, rounded as Pillow does: (N, 3, H, W) to (N, 1, H, W)."""
    weights = torch.tensor([19595, 38470, 7471], device=images.device).view(1, 3, 1, 1)  # of 65536 [ITU-R 601]
    return ((images.long() * weights).sum(1, keepdim=True) + 32768 >> 16).to(torch.uint8)


def _check_scaled(mean: Any, std: Any) -> None:
    """Refuse a mean and standard deviation that pictures scaled to [0, 1] cannot have."""
    for name, values in (("mean", mean), ("std", std)):
        several = isinstance(values, tuple | list) and values
        if not (several and all(isinstance(v, Real) and isfinite(v) for v in values)):
            raise InputError(
                f"preprocessing.{name}={values!r}: give a number for each channel, such as (0.5, 0.5, 0.5)."
            )
    if len(mean) != len(std):
        raise InputError(
            f"preprocessing has {len(mean)} means and {len(std)} standard deviations; give as many of both, one for "
            "each channel or one for all."
        )
    if not all(0 <= m <= 1 for m in mean):
        raise InputError(f"preprocessing.mean={tuple(mean)} must lie in 0..1{_of_bytes(mean)}.")
    if not all(0 < s <= 1 for s in std):
        raise InputError(f"preprocessing.std={tuple(std)} must be above 0, and at most 1{_of_bytes(std)}.")


def _of_bytes(values: Any) -> str:
    """What values that are of pictures in 0..255 would be of scaled ones."""
    if not all(0 < v <= 255 for v in values) or max(values) <= 1:
        return ", as of pictures scaled to 0..1"
    scaled = ", ".join(f"{v / 255:.4g}" for v in values)
    return f", as of pictures scaled to 0..1; of pictures in 0..255, divide by 255: ({scaled})"


@dataclass(frozen=True)
class Base:
    """How `load_model` made a network, in plain values.

    Attributes:
        name: that it was asked for.
        classes: number of scores; None is the library's default.
        width: width factor.
        seed: of the initial weights.
        pretrained: whether the first weights were the library's, which asks for other layers in a few networks.
        operated: how many surgeries a function of the user's had done before it returned the network.
    """

    name: str
    classes: int | None = None
    width: float = 1.0
    seed: int = 0
    pretrained: bool = False
    operated: int = 0


@dataclass
class Network:
    """A module, the preprocessing it expects, and the name it was loaded by.

    Attributes:
        module: any `nn.Module` from pictures (N, C, H, W) to class scores (N, classes).
        preprocessing: what its input must look like.
        name: how reports call it.
        input_size: (C, H, W) of one input, for tracing; None: that of the data at hand, where there are data, else what
            the module itself says, else 224 x 224.
        drawn: the fingerprint of the weights, where they were drawn at random when the network was loaded.
        partial: which of them a file of weights did not hold, where it did not hold all.
        base: how `load_model` made it, before any surgery; None where it did not, so that it cannot be saved.
        classes: names of the scores in their order, where they are known.

    Raises:
        InputError: for anything but a module, a `Preprocessing` and a size of three numbers above 0.
    """

    module: nn.Module
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    name: str = "network"
    input_size: tuple[int, int, int] | None = None
    drawn: str = ""
    partial: str = ""
    base: Base | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what is given; pictures get the channels that the module takes."""
        if not isinstance(self.module, nn.Module):
            raise InputError(
                f"module={self.module!r}: a Network is made of a torch.nn.Module, not of a "
                f"{type(self.module).__name__}; load_model(NAME) gives one by name."
            )
        if not isinstance(self.preprocessing, Preprocessing):
            raise InputError(f"preprocessing={self.preprocessing!r}: give a whatwhere.Preprocessing.")
        size = self.input_size
        if size is not None and (len(size) != 3 or any(not isinstance(n, int) or n < 1 for n in size)):
            raise InputError(f"input_size={size!r}: give (channels, height, width), three whole numbers above 0.")
        channels = size[0] if size else _taken(self.module)
        if self.preprocessing.channels is None and channels != 3:
            self.preprocessing = replace(self.preprocessing, channels=channels)

    def prepared(self, pictures: Tensor) -> Tensor:
        """Pictures (N, C, H, W) as the module takes them: normalised, where its weights are and in their precision."""
        like = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        if like is None:
            return self.preprocessing.normalise(pictures)
        return self.preprocessing.normalise(pictures.to(like.device)).to(like.dtype)


# What instruments take and give back: a module for a module, a Network for a Network.
N = TypeVar("N", nn.Module, Network)


def as_module(net: nn.Module | Network) -> nn.Module:
    """The plain module of what a user hands to an instrument.

    Raises:
        InputError: for anything else; for a compiled or scripted module, which hooks do not reach; for one whose layers
            do not know their sizes yet.
    """
    module = net.module if isinstance(net, Network) else net
    if not isinstance(module, nn.Module):
        raise InputError(f"net must be a torch.nn.Module or a whatwhere.Network, not {type(net).__name__}.")
    compiled = next((n for n, m in module.named_modules() if _is_compiled(m)), None)
    if compiled is not None:
        raise InputError(
            f"{f'net.{compiled}' if compiled else 'net'} is compiled, and hooks added after torch.compile are ignored; "
            "pass the original module (the compiled one's _orig_mod) and compile afterwards."
        )
    scripted = next((n for n, m in module.named_modules() if isinstance(m, torch.jit.ScriptModule)), None)
    if scripted is not None:
        raise InputError(
            f"{f'net.{scripted}' if scripted else 'net'} is TorchScript (torch.jit), whose layers cannot be looked "
            "into or changed; pass the module that was scripted or traced."
        )
    lazy = next((n for n, p in module.named_parameters() if isinstance(p, UninitializedParameter)), None)
    if lazy is not None:
        raise InputError(f"net.{lazy} has no size yet (a lazy layer); run the network once on a picture before.")
    return module


def check_finite(net: nn.Module | Network) -> None:
    """Refuse weights that are NaN or infinite, of which no number would mean anything.

    Raises:
        InputError: naming the first such tensor.
    """
    # A scripted or compiled module runs as it is: what looks into a network refuses it, what runs it need not.
    module = net.module if isinstance(net, Network) else net
    for name, tensor in module.state_dict().items():
        found = broken_values(name, tensor)
        if found:
            raise InputError(
                f"net: {name} holds {found} in {int((~tensor.isfinite()).sum())} of its {tensor.numel()} values, so "
                "that no score means anything; load weights that are whole, or train again with a lower lr."
            )


def broken_values(name: str, tensor: Any) -> str:
    """What is wrong with a tensor's values; "" if nothing is."""
    if not isinstance(tensor, Tensor) or tensor.is_meta or not tensor.is_floating_point():
        return ""
    if bool(tensor.sum().isfinite()):  # much faster than to look at each
        return ""
    if bool(tensor.isnan().any()):
        return "NaN"
    masks = name.endswith("mask")  # of attention: minus infinity is meant
    return "" if masks or bool(tensor.isfinite().all()) else "infinity"


def channels_of(module: nn.Module) -> int:
    """Of the pictures that a module takes, as far as its layers say: those of the first convolution, else 3."""
    config = getattr(module, "pretrained_cfg", None) or {}
    stem = config.get("first_conv") if hasattr(config, "get") else None
    first = [m for n, m in module.named_modules() if n == stem]
    return next((m.in_channels for m in (*first, *module.modules()) if isinstance(m, nn.Conv2d)), 3)


def _taken(module: nn.Module) -> int:
    """The channels of the first convolution, unless the module runs on RGB: a stem need not be defined first."""
    channels = channels_of(module)
    return 3 if channels == 3 or _runs_on_rgb(module) else channels


def _runs_on_rgb(module: nn.Module) -> bool:
    try:
        probe = copy.deepcopy(module).to("meta").eval()  # shapes alone, no computation
        with torch.no_grad():
            probe(torch.empty(1, 3, 224, 224, device="meta"))
    except Exception:  # a foreign module may raise anything
        return False
    return True


@contextmanager
def running(net: nn.Module | Network, size: Sequence[int]) -> Iterator[None]:
    """Turn a forward pass that fails in the block into an error that the user can fix.

    Args:
        net: what runs.
        size: (C, H, W) of the pictures that it runs on.

    Raises:
        InputError: if the network does not run on such pictures.
    """
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        said = f"the network does not run on a picture of shape {tuple(size)} (C, H, W): {why}."
        raise InputError(f"{said} {_fix(net.module if isinstance(net, Network) else net, size)}") from error


def _fix(module: nn.Module, size: Sequence[int]) -> str:
    channels = channels_of(module)
    if channels != size[0]:
        wanted = (channels, *size[1:])
        return f"Its first convolution takes {channels} channels: give such pictures, or input_size={wanted}."
    return "Give input_size=(C, H, W), or Network(net, input_size=(C, H, W))."


def main_map(output: Any) -> Tensor:
    """The scores of a segmentation network, from any usual form of its output.

    A tensor is taken as it is; of a mapping `out` or `logits`, else the first map; of a tuple or list the first map.

    Raises:
        InputError: if there is no map (N, classes, h, w); the message lists what came.
    """
    named: dict[Any, Any] = dict(output) if isinstance(output, Mapping) else {}
    parts = [named.get("out"), named.get("logits"), *named.values()]
    if isinstance(output, tuple | list):
        parts = list(output)
    elif not named:
        parts = [output, getattr(output, "logits", None)]
    found = next((p for p in parts if isinstance(p, Tensor) and p.ndim == 4), None)
    if found is None:
        raise InputError(
            f"the network gives {_listed(output)}; a segmentation network gives scores (N, classes, h, w)."
        )
    return found


def _listed(output: Any) -> str:
    """What a network gave, in words."""
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return "a mapping with " + (", ".join(f"{k}: {_listed(v)}" for k, v in output.items()) or "nothing in it")
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of " + (", ".join(map(_listed, output)) or "nothing")
    return type(output).__name__


def _is_compiled(module: nn.Module) -> bool:
    """By `torch.compile(module)`, or in place by `module.compile()`."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
