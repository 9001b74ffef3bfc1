"""What a network has that was cut: the pool before its vectors, and the size that it is held to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError


class OnlyAt(nn.Module):
    """Lets pictures of one size pass: what the network does with others was not followed.

    Args:
        size: (H, W).
        done: what was done to the network at this size, for the message.
        again: what to do for another one.
    """

    whole = True  # the dataflow does not look into it

    def __init__(self, size: tuple[int, int], done: str = "collapsed", again: str = "collapse it again") -> None:
        super().__init__()
        self.size, self.done, self.again = size, done, again

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, C, H, W) as they are.

        Raises:
            InputError: if they are of another size.
        """
        if tuple(x.shape[-2:]) != self.size:
            h, w = self.size
            raise InputError(
                f"pictures of {x.shape[-2]} x {x.shape[-1]}: this network asks for its pictures' size, and was "
                f"{self.done} for {h} x {w}; {self.again} with input_size=(channels, height, width) of these."
            )
        return x

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.size[0]} x {self.size[1]}"


class SpatialMean(nn.Module):
    """A tensor with its map constant at one position: of tokens those of a prefix stay, and the others become one.

    Args:
        layout: of the tensor, as of a `Site`.
    """

    whole = True  # the dataflow does not look into it

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 1, 1), or likewise in the layout."""
        if self.layout == "NCHW":
            return x.mean((2, 3), keepdim=True)
        if self.layout == "NHWC":
            return x.mean((1, 2), keepdim=True)
        prefix = int(self.layout.removeprefix("tokens+"))
        return torch.cat([x[:, :prefix], x[:, prefix:].mean(1, keepdim=True)], 1)

    def spread(self, mean: Tensor, shape: Sequence[int]) -> Tensor:
        """The mean at every position again.

        Args:
            mean: what this gives.
            shape: of the tensor that it was made of.
        """
        if not self.layout.startswith("tokens"):
            return mean.expand(*shape).contiguous()
        prefix = int(self.layout.removeprefix("tokens+"))
        return torch.cat([mean[:, :prefix], mean[:, prefix:].expand(-1, shape[1] - prefix, -1)], 1)

    def extra_repr(self) -> str:
        """The layout."""
        return self.layout


class PooledVector(SpatialMean):
    """One vector a picture: the mean of a map over its positions; of tokens that of all but a prefix."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C), or likewise of a map in the layout."""
        pooled = super().forward(x)
        return pooled[:, -1] if pooled.ndim == 3 else pooled.flatten(1)
