"""A network together with the preprocessing it expects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isfinite
from numbers import Real
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

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
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    size: tuple[int, int] | None = None
    crop_pct: float = 1.0
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    source: str = "default"

    def __post_init__(self) -> None:
        """Refuse what no pictures have.

        Raises:
            InputError: for means or deviations that are not of pictures scaled to [0, 1], different numbers of them, or
                a size that is not (height, width).
        """
        _check_scaled(self.mean, self.std)
        pair = isinstance(self.size, tuple | list) and len(self.size) == 2
        if self.size is not None and not (pair and all(isinstance(side, int) and side >= 1 for side in self.size)):
            raise InputError(f"preprocessing.size={self.size!r} must be (height, width), both at least 1.")

    def normalise(self, images: Tensor) -> Tensor:
        """Scale bytes to [0, 1] and subtract the mean; floats are passed on as they are.

        Args:
            images: (N, C, H, W), uint8, or a floating type that is already prepared.

        Returns:
            (N, C, H, W), float32, channels last in memory.
        """
        if images.dtype != torch.uint8:
            return images.float().contiguous(memory_format=torch.channels_last)
        if len(self.mean) not in (1, images.shape[1]):
            raise InputError(
                f"preprocessing has {len(self.mean)} channel means, the pictures have {images.shape[1]} channels; "
                "give one mean per channel, or one for all."
            )
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=images.device).view(1, -1, 1, 1)
        shift = torch.tensor([m / s for m, s in zip(self.mean, self.std, strict=True)], device=images.device)
        x = images.to(torch.float32, memory_format=torch.channels_last)
        return x.mul_(scale).sub_(shift.view(1, -1, 1, 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a result file."""
        return asdict(self)


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
    """

    module: nn.Module
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    name: str = "network"
    input_size: tuple[int, int, int] | None = None
    drawn: str = ""

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
        InputError: for anything else, and for a compiled module: hooks added after `torch.compile` are ignored.
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
    return module


def _is_compiled(module: nn.Module) -> bool:
    """By `torch.compile(module)`, or in place by `module.compile()`."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
