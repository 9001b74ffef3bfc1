"""Reparametrised layers: weights that torch computes anew from other tensors (norms of weights, pruning masks).

Such a layer's own `reset_parameters` draws the computed weight, which the next forward pass overwrites. Here a layer is
undressed, to draw its weights, and the drawn weights are given to the tensors that they are computed from.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize, prune

# The packages hide the modules of the same name.
WeightNorm: type[Any] = import_module("torch.nn.utils.weight_norm").WeightNorm
SpectralNorm: type[Any] = import_module("torch.nn.utils.spectral_norm").SpectralNorm
Pruning = prune.BasePruningMethod
ITERATIONS = 15  # of the power method, as torch's own constructor


def parametrised(module: nn.Module) -> dict[str, Any]:
    """The chains of parametrizations of a layer, by the tensor's name."""
    return dict(getattr(module, "parametrizations", {}).items()) if parametrize.is_parametrized(module) else {}


def hooks_of(module: nn.Module) -> dict[str, Any]:
    """The forward hooks that compute tensors of a layer, by the tensor's name, in the order in which they run."""
    every = module._forward_pre_hooks.values()
    return {name: hook for hook in every if (name := _computed_by(hook))}


def _computed_by(hook: Any) -> str:
    if isinstance(hook, WeightNorm | SpectralNorm):
        return str(hook.name)
    return str(hook._tensor_name) if isinstance(hook, Pruning) else ""


def computed(module: nn.Module) -> list[str]:
    """The names of a layer's tensors that are computed from others."""
    return [*parametrised(module), *hooks_of(module)]


def plain_twin(module: nn.Module, copied: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A copy of a layer in which each computed tensor is a parameter.

    Args:
        module: the layer; it is left alone.
        copied: copies a module.
    """
    twin = copied(module)
    for key, hook in reversed(list(twin._forward_pre_hooks.items())):  # the last put on is taken off first
        if _computed_by(hook):
            hook.remove(twin)
            del twin._forward_pre_hooks[key]
    # Not torch's remove_parametrizations, which changes the class, and copies share it with the given layer.
    twin.__class__ = parametrize.type_before_parametrizations(module)
    for name in parametrised(module):
        twin._modules.pop("parametrizations", None)
        twin.register_parameter(name, nn.Parameter(getattr(module, name).detach().clone()))
    return twin


def give(module: nn.Module, name: str, value: Tensor) -> None:
    """Set a layer's tensor: where it is computed, those that it is computed from.

    Args:
        module: the layer.
        name: of its tensor, such as "weight".
        value: what a fresh layer has there.

    Raises:
        ValueError: if the computation cannot be turned round.
    """
    if name in parametrised(module):
        _give_parametrised(parametrised(module)[name], value)
        return
    hook = hooks_of(module).get(name)
    if hook is None:
        getattr(module, name).copy_(value)
    elif isinstance(hook, WeightNorm):
        give(module, f"{name}_g", torch.norm_except_dim(value, 2, hook.dim))
        give(module, f"{name}_v", value)
    else:
        give(module, f"{name}_orig", value)
        _refresh(module, name, hook)


def recompute(module: nn.Module) -> None:
    """Compute the tensors that hooks compute, which else happens in the next forward pass only."""
    for hook in 2 * list(hooks_of(module).values()):  # the first may compute from what the second does
        hook(module, None)


def _refresh(module: nn.Module, name: str, hook: Any) -> None:
    if isinstance(hook, SpectralNorm):
        u, v = (getattr(module, f"{name}_{side}") for side in "uv")
        _power(hook.reshape_weight_to_matrix(getattr(module, f"{name}_orig")), u, v, hook.eps)
        return
    mask = getattr(module, f"{name}_mask")
    for axis, length in enumerate(mask.shape):  # a mask that cuts whole channels still does, but other ones
        mask.copy_(mask.index_select(axis, torch.randperm(length)))


def _give_parametrised(chain: Any, value: Tensor) -> None:
    try:
        chain.right_inverse(value)
    except (RuntimeError, NotImplementedError) as error:  # none is defined
        original = getattr(chain, "original", None)
        if original is None or original.shape != value.shape:
            raise ValueError("its parametrization has no right_inverse") from error
        original.copy_(value)  # as if it were registered on a fresh layer
    _converge(chain)


def _converge(chain: Any) -> None:
    """Draw what spectral norms of a chain keep of the weight that reaches them."""
    single = chain.is_tensor
    value: Any = [chain.original] if single else [getattr(chain, f"original{i}") for i in range(chain.ntensors)]
    for part in chain:
        if hasattr(part, "_power_method") and hasattr(part, "_u"):
            _power(part._reshape_weight_to_matrix(value[0]), part._u, part._v, part.eps)
        value = [part(*value)]


def _power(matrix: Tensor, u: Tensor, v: Tensor, eps: float) -> None:
    """Draw the two singular vectors, then let the power method converge, in place."""
    for vector in (u, v):
        vector.copy_(normalize(torch.randn(vector.shape), dim=0, eps=eps))
    for _ in range(ITERATIONS):
        v.copy_(normalize(matrix.t() @ u, dim=0, eps=eps))
        u.copy_(normalize(matrix @ v, dim=0, eps=eps))
