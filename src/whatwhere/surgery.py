"""Surgery: permanent edits on a copy of a network, counted, and seen to run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.network import N, Network, as_module

Edit = Callable[[nn.Module], nn.Module]
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Replaced:
    """One module that surgery put in the place of another."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        """One line: where, what was there, what is there now."""
        return f"{self.name}: {self.before} -> {self.after}"


def edit(net: nn.Module | Network, edits: Mapping[str, Edit]) -> tuple[nn.Module, list[Replaced]]:
    """Replace modules, by name, on a copy.

    Args:
        net: the network; it is left alone.
        edits: for each dotted module name, a function from the old module (of the copy) to the new one. Inner
            modules are edited before those around them.

    Returns:
        The new module, and what was replaced; an edit that returns its module unchanged is not counted.

    Raises:
        InputError: if nothing was replaced.
    """
    module = copied(as_module(net))
    order = {name: i for i, (name, _) in enumerate(module.named_modules())}
    done = []
    for name in sorted(edits, key=lambda n: -n.count(".")):
        old = module.get_submodule(name)
        before = describe(old)  # the edit may work in place
        everywhere = [n for n, m in module.named_modules(remove_duplicate=False) if m is old]
        new = edits[name](old)
        if new is not old:
            for place in everywhere:  # a module with several names stays one
                put(module, place, new)
        if new is not old or describe(new) != before:
            done.append(Replaced(name, before, describe(new)))
    if not done:
        raise InputError("surgery replaced nothing: none of the named modules needed a change.")
    return module, sorted(done, key=lambda r: order[r.name])


def copied(module: M) -> M:
    """A copy of a module that shares nothing with it, whatever it holds: pruned weights, results with gradients.

    Raises:
        InputError: if it holds something that cannot be copied, such as a lock or a generator.
    """
    # torch refuses to copy a tensor that was computed with gradients: a pruned weight, a feature map kept for later.
    memo = {id(t): t.detach().clone() for m in module.modules() for t in _computed_tensors(m.__dict__, set())}
    try:
        return copy.deepcopy(module, memo)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"net cannot be copied, and networks are changed on a copy: {error}. Remove what it holds beside its "
            "layers (copy.deepcopy(net) shows the place)."
        ) from error


def _computed_tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Tensors in plain values and their containers that are no leaves."""
    if isinstance(value, Tensor):
        if not value.is_leaf:
            yield value
        return
    inner: Any = value
    if hasattr(value, "__dict__") and not isinstance(value, nn.Module | type):
        inner = list(vars(value).values())
    if not isinstance(inner, dict | list | tuple | set) or id(value) in seen:
        return
    seen.add(id(value))
    for part in inner.values() if isinstance(inner, dict) else inner:
        yield from _computed_tensors(part, seen)


def put(root: nn.Module, name: str, new: nn.Module) -> None:
    """Set the submodule of a dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, new)


def count_parameters(module: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in module.parameters())


def describe(module: nn.Module) -> str:
    """A module on one short line, without its children."""
    children = list(module.children())
    inner = f"[{describe(children[-1])}]" if children and type(module).__module__.startswith("whatwhere") else ""
    return f"{type(module).__name__}({module.extra_repr()}){inner}"


def as_given(net: N, module: nn.Module, name: str) -> N:
    """Wrap the new module like the input: a `Network` stays one, with its preprocessing."""
    return replace(net, module=module, name=name) if isinstance(net, Network) else module


def modules_that_ran(module: nn.Module, example: torch.Tensor) -> set[str]:
    """The names of the modules that a forward pass on an example calls; evaluation mode is the caller's affair."""
    ran: set[str] = set()
    handles = [
        m.register_forward_hook(lambda _m, _a, _o, name=name: ran.add(name)) for name, m in module.named_modules()
    ]
    try:
        module(example)
    finally:
        for handle in handles:
            handle.remove()
    return ran
