"""The bottleneck: C channels to K concept maps, and from these alone back to C channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.say.checked import whole

Activation = Literal["sigmoid", "binary", "softmax", "linear"]
Edit = Callable[[Tensor], Tensor]


class Bottleneck(nn.Module):
    """K concept maps between two 1 x 1 convolutions.

    Args:
        channels: C of the map it is put behind.
        concepts: K.
        activation: of the concept maps: `sigmoid`, each in [0, 1]; `binary`, that rounded to 0 or 1 (no gradient goes
            through); `softmax`, in groups of which each adds up to 1; `linear`, none.
        group: maps in a softmax group; divides K.
        names: of the concepts; empty: numbers.

    Attributes:
        temperature: (), of the softmax: the lower, the nearer to one-hot; kept with the weights.
        maps: the last concept maps (N, K, h, w), where `keep_maps` is set; for looking inside.
    """

    temperature: Tensor

    def __init__(
        self,
        channels: int,
        concepts: int,
        activation: Activation = "sigmoid",
        *,
        group: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        _check(channels, concepts, activation, group, names)
        self.encode = nn.Conv2d(channels, concepts, 1)
        self.decode = nn.Conv2d(concepts, channels, 1)
        self.activation, self.group = activation, group
        self.names = tuple(names) or tuple(str(i) for i in range(concepts))
        self.register_buffer("temperature", torch.ones(()), persistent=activation == "softmax")
        self.keep_maps, self.maps = False, torch.empty(0)
        self._edit: Edit | None = None

    def reset_parameters(self) -> None:
        """What a fresh layer has beside its convolutions."""
        self.temperature.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape, through K maps."""
        maps = self.concept_maps(x)
        if self._edit is not None:
            maps = self._edit(maps)
        if self.keep_maps:
            self.maps = maps.detach()
        return self.decode(maps)

    def concept_maps(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, K, h, w), before any overwriting."""
        raw = self.encode(x)
        if self.activation == "sigmoid":
            return torch.sigmoid(raw)
        if self.activation == "binary":
            return (raw > 0).to(raw.dtype)
        if self.activation == "linear":
            return raw
        grouped = raw.unflatten(1, (-1, self.group)) / self.temperature
        return grouped.softmax(2).flatten(1, 2)

    def freeze(self) -> None:
        """Keep what the concept maps are: only what follows learns."""
        self.encode.requires_grad_(False)

    def extra_repr(self) -> str:
        """The settings, for reports."""
        group = f", groups of {self.group}" if self.activation == "softmax" else ""
        return f"{self.encode.in_channels} -> {self.encode.out_channels} maps, {self.activation}{group}"


@contextmanager
def overwriting(layer: Bottleneck, edit: Edit) -> Iterator[None]:
    """In the block, what follows sees edited concept maps.

    >>> with overwriting(layer, lambda maps: maps.index_fill(1, torch.tensor([3]), 0.0)):
    ...     scores = net(pictures)                       # without the fourth concept

    Args:
        layer: of the network.
        edit: from maps (N, K, h, w) to maps of the same shape.
    """
    before = layer._edit

    def checked(maps: Tensor) -> Tensor:
        edited = edit(maps)
        if edited.shape != maps.shape:
            raise InputError(f"the edit gives maps of shape {tuple(edited.shape)}; expected {tuple(maps.shape)}.")
        return edited

    layer._edit = checked
    try:
        yield
    finally:
        layer._edit = before


def layer_of(module: nn.Module) -> Bottleneck:
    """A network's bottleneck.

    Raises:
        InputError: if it has none, or several.
    """
    found = [m for m in module.modules() if isinstance(m, Bottleneck)]
    if len(found) != 1:
        raise InputError(
            f"the network has {len(found)} bottlenecks; put one in with ww.say.bottleneck(net, site, concepts)."
        )
    return found[0]


def _check(channels: int, concepts: int, activation: str, group: int, names: Sequence[Any]) -> None:
    whole("channels", channels, 1)
    if activation not in get_args(Activation):
        raise InputError(f"activation={activation!r}: choose {', '.join(get_args(Activation))}.")
    if isinstance(concepts, bool) or not isinstance(concepts, int) or concepts < 1 or len(names) not in (0, concepts):
        raise InputError(f"concepts={concepts!r} with {len(names)} names; give at least one, and a name for each.")
    _check_names(names)
    if activation == "softmax" and (not isinstance(group, int) or group < 2 or concepts % group):
        raise InputError(f"group={group} must be at least 2 and divide concepts={concepts}.")


def _check_names(names: Sequence[Any]) -> None:
    wrong = [n for i, n in enumerate(names) if not isinstance(n, str) or n in names[:i]]
    if wrong:
        raise InputError(f"names: {wrong[0]!r} is given twice, or is not text; give every concept a name of its own.")
