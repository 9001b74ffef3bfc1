"""An oracle for gates that knows no graph: what the running network adds and concatenates."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from whatwhere.use.recalibrated import Recalibrated


class Watched(TorchFunctionMode):
    """Counts the maps that are added or concatenated and are nothing but zeros, class tokens left aside."""

    JOINS = ("add", "__add__", "__radd__", "add_", "__iadd__", "cat", "concat")

    def __init__(self) -> None:
        super().__init__()
        self.added: list[torch.Tensor] = []
        self.joined: set[int] = set()
        self.kept: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in self.JOINS:
            with torch._C.DisableTorchFunction():
                self._look(name, args[0] if name in ("cat", "concat") else args)
        return func(*args, **(kwargs or {}))

    def _look(self, name: str, given: Any) -> None:
        maps = [x for x in given if isinstance(x, torch.Tensor) and x.ndim > 2 and x.numel()]
        if len(maps) < 2:
            return
        for x in maps:
            shut = not (x[:, 1:] if x.ndim == 3 and x.shape[1] > 1 and x.shape[1] % 2 else x).any()
            if shut and name in ("cat", "concat"):
                self.joined.add(x.data_ptr())
                self.kept.append(x)  # so that its memory is not used again
            elif shut and maps[0].shape == maps[1].shape:
                self.added.append(x)


def shut(gated: nn.Module) -> list[Any]:
    """Gates that give zeros."""
    wrapped = [m for m in gated.modules() if isinstance(m, Recalibrated)]
    return [w.gate.register_forward_hook(lambda _m, _a, out: torch.zeros_like(out)) for w in wrapped]


def branches_gone(module: nn.Module, x: torch.Tensor) -> int:
    with torch.no_grad(), Watched() as watched:
        module(x)
    return len(watched.added) or len(watched.joined)
