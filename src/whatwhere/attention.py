"""How often a network attends, seen at its operators: attention layers have no common class or name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

FUSED = (F.scaled_dot_product_attention, F.multi_head_attention_forward)
WEIGHTS = (torch.softmax, F.softmax, Tensor.softmax)
PRODUCTS = (torch.matmul, torch.bmm, torch.einsum, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)


class AttentionCalls(TorchFunctionMode):
    """Counts, while active, the calls of attention: fused ones, and products with the outputs of a softmax.

    Attributes:
        count: how many there were so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._weights: dict[int, Tensor] = {}  # held, so that no other tensor gets their memory

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operator, and count it if it attends; what a fused one calls is not counted again."""
        out = func(*args, **(kwargs or {}))
        if func in FUSED:
            self.count += 1
        elif func in WEIGHTS and out.ndim >= 3:
            self._weights[out.data_ptr()] = out
        elif func in PRODUCTS:
            self._multiplied([*args, *(kwargs or {}).values()])
        return out

    def _multiplied(self, operands: Sequence[Any]) -> None:
        # Dropout that is idle, and views such as heads beside each other, give tensors in the same memory.
        used = [t.data_ptr() for t in _tensors(operands) if t.data_ptr() in self._weights]
        for pointer in used:
            del self._weights[pointer]
        self.count += bool(used)


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
