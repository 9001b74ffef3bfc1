"""A layer with recalibration behind it, however the map that leaves the layer is laid out."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.maps import as_maps, from_maps
from whatwhere.site import Site


class Recalibrated(nn.Sequential):
    """A layer and the recalibration of its output; weights saved without the recalibration still load.

    Args:
        layer: the layer; its output is a map.
        gate: the recalibration module; it takes maps (N, C, H, W).
        at: how the output is laid out, `shape_in` being the shape of its map; None is (N, C, H, W). Tokens before those
            of the positions are left as they are.
    """

    def __init__(self, layer: nn.Module, gate: nn.Module, at: Site | None = None) -> None:
        super().__init__(OrderedDict(layer=layer, gate=gate))
        self.at = None if at is None or at.layout == "NCHW" else at
        self.register_load_state_dict_pre_hook(_accept_plain)

    def forward(self, *args: Any, **options: Any) -> Any:
        """The layer's output, recalibrated, however the layer is called."""
        layer, _ = self
        return self.weigh(layer(*args, **options))

    def weigh(self, x: Any) -> Any:
        """A value in the place of the layer's output, recalibrated."""
        _, gate = self
        if self.at is None:
            return gate(x)
        self._check_grid(x)
        return from_maps(gate(as_maps(x, self.at)), x, self.at)

    def _check_grid(self, x: Tensor) -> None:
        """Tokens do not tell their rows: a picture of another size is refused, not taken for one of this size."""
        assert self.at
        _, h, w = self.at.shape_in
        if self.at.layout.startswith("tokens") and x.shape[1] != h * w + int(self.at.layout.removeprefix("tokens+")):
            raise InputError(
                f"the gate behind {self.at.module} takes maps of {h} x {w} positions as tokens, and got {x.shape[1]} "
                "tokens; give recalibrate the pictures' input_size=(C, H, W)."
            )

    def extra_repr(self) -> str:
        """The layout, where it is another than (N, C, H, W)."""
        return self.at.layout if self.at else ""


def _accept_plain(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename the tensors of a network without recalibration as this module expects them."""
    own = [k for k in state if k.startswith(prefix)]
    if any(k.startswith((f"{prefix}layer.", f"{prefix}gate.")) for k in own):
        return
    for key in own:
        state[f"{prefix}layer.{key.removeprefix(prefix)}"] = state.pop(key)
