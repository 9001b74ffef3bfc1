"""A network together with the preprocessing it expects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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
