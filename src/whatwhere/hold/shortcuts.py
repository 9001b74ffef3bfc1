"""Shortcuts of residual blocks that follow their branch, whose maps shrink or grow with its padding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from whatwhere.hold.uneven import Pair, window_of
from whatwhere.layers import branch_parts
from whatwhere.surgery import Replaced, describe, put


class FittedShortcut(nn.Sequential):
    """What a block's `downsample` did, then cropped or zero-padded around the centre to the size of the branch."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), the block's input, to (N, C', H', W') that fits onto the branch's output."""
        size = branch_size(self.__dict__["block"], (x.shape[2], x.shape[3]))
        return centred(super().forward(x), size)


def centred(x: Tensor, size: Pair) -> Tensor:
    """Crop or zero-pad maps around their centre.

    Args:
        x: (N, C, H, W).
        size: (H', W') to reach. Of an odd difference the larger half goes to the bottom or right.

    Returns:
        (N, C, H', W').
    """
    rows, columns = size[0] - x.shape[2], size[1] - x.shape[3]
    top, left = int(rows / 2), int(columns / 2)  # towards zero
    return F.pad(x, (left, columns - left, top, rows - top))  # negative padding crops


def branch_size(block: nn.Module, size: Pair) -> Pair:
    """The (h, w) of the output of a residual block's branch, of its input's: from its layers' own attributes.

    Modules run in the order in which they are registered, as those of torchvision and timm do.
    """
    aside = set(block.downsample.modules()) if isinstance(block.downsample, nn.Module) else set()
    for window in (window_of(m) for m in block.modules() if m not in aside):
        size = (window.count(0, size[0]), window.count(1, size[1])) if window else size
    return size


def fit_shortcuts(module: nn.Module, changed: Collection[str]) -> Iterator[Replaced]:
    """Fit the shortcut of every residual block that contains a changed module, in place.

    Args:
        module: the network.
        changed: names of modules whose padding has changed.
    """
    blocks = [(n, m) for n, m in module.named_modules() if branch_parts(m)]
    for name, block in blocks:
        inside = any(c.startswith(f"{name}." if name else "") for c in changed)
        if inside and not isinstance(block.downsample, FittedShortcut):
            yield _fit_shortcut(module, name, block)


def _fit_shortcut(module: nn.Module, name: str, block: Any) -> Replaced:
    old: nn.Module | None = block.downsample
    before = describe(old) if old is not None else "None"
    new = FittedShortcut(_parts(old))
    new.training = block.training if old is None else old.training
    new.__dict__["block"] = block  # not as a part: the block contains the shortcut, not the other way round
    where = f"{name}.downsample".lstrip(".")
    put(module, where, new)
    return Replaced(where, before, describe(new))


def _parts(old: nn.Module | None) -> OrderedDict[str, nn.Module]:
    """The parts under their old names, so that saved weights still fit."""
    if old is None:
        return OrderedDict()
    return OrderedDict(old.named_children() if type(old) is nn.Sequential else [("shortcut", old)])
