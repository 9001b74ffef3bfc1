"""GAPNet and PermuteNet: does position survive global average pooling, and is it kept in which channel is which?

Source: Islam et al., ICCV 2021 [islam2021]. GAPNet reads the pooled channels by one linear layer; PermuteNet puts them
in another order first, drawn anew for every forward pass, so that nothing kept in their order can be read. Deviation:
the draw comes from a `torch.Generator` of the module's own, whose state is part of the module's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.network import N, Network, as_module
from whatwhere.surgery import as_given, edit


class PermuteChannels(nn.Module):
    """Puts pooled channels in another order, one for the whole batch, drawn anew for every forward pass.

    It does so in training and in evaluation alike. Where the draws stand is in the `state_dict`, so that what is
    loaded goes on as what was saved would have.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self._draws = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) or (N, C, 1, 1) to the same shape.

        Raises:
            InputError: if the map still has positions.
        """
        if x.ndim < 2 or x[0, 0].numel() != 1:
            raise InputError(
                f"PermuteChannels got shape {tuple(x.shape)}; it takes pooled features, (N, C) or (N, C, 1, 1): put it "
                "after the global average pool."
            )
        return x[:, torch.randperm(x.shape[1], generator=self._draws).to(x.device)]

    def get_extra_state(self) -> Tensor:
        """Where the draws stand, for `state_dict`."""
        return self._draws.get_state()

    def set_extra_state(self, state: Any) -> None:
        """Go on from there."""
        self._draws.set_state(state.cpu())

    def extra_repr(self) -> str:
        """The seed."""
        return f"seed={self.seed}"


def gap_net(trunk: nn.Module, *, channels: int, outputs: int, permute: bool = False, seed: int = 0) -> nn.Sequential:
    """GAPNet or PermuteNet on a convolutional trunk: global average pool, (permutation,) linear layer.

    >>> gap_net(trunk, channels=64, outputs=9)                    # GAPNet: trunk gives (N, 64, H, W)
    >>> gap_net(trunk, channels=64, outputs=9, permute=True)      # PermuteNet

    Args:
        trunk: from pictures to feature maps (N, channels, H, W); it is used, not copied.
        channels: of its feature maps.
        outputs: scores of the linear layer.
        permute: redraw the order of the channels in every forward pass.
        seed: of the draws and of the linear layer's weights; the global random state is put back.

    Raises:
        InputError: if `channels` or `outputs` is below 1.
    """
    if min(channels, outputs) < 1:
        raise InputError(f"channels={channels}, outputs={outputs}: give at least 1 of each.")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the accelerators
        linear = nn.Linear(channels, outputs)
    order = [PermuteChannels(seed)] if permute else []
    return nn.Sequential(as_module(trunk), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *order, linear)


def permute_net(net: N, *, seed: int = 0) -> N:
    """PermuteNet of a network that ends in a global average pool: the order of the pooled channels is redrawn.

    Args:
        net: the network; a copy is changed.
        seed: of the draws.

    Returns:
        A copy, a `Network` if it was one, whose last global average pool is followed by `PermuteChannels`.

    Raises:
        InputError: if there is no global average pool as a module.
    """
    pools = [n for n, m in as_module(net).named_modules() if _is_global(m)]
    if not pools:
        raise InputError(
            "net has no global average pool (torch.nn.AdaptiveAvgPool2d(1)); give one that has, or build one from its "
            "trunk: gap_net(trunk, channels=..., outputs=..., permute=True)."
        )
    module, _ = edit(net, {pools[-1]: lambda pool: nn.Sequential(pool, PermuteChannels(seed))})
    return as_given(net, module, f"{net.name}, channels permuted" if isinstance(net, Network) else "")


def _is_global(module: nn.Module) -> bool:
    return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))
