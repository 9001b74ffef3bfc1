"""Surgery: permanent edits on a copy of a network, counted, and seen to run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from whatwhere.errors import InputError
from whatwhere.network import N, Network, as_module

Edit = Callable[[nn.Module], nn.Module]


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
    module = copy.deepcopy(as_module(net))
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


def put(root: nn.Module, name: str, new: nn.Module) -> None:
    """Set the submodule of a dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, new)


def untrained(net: N, seed: int) -> N:
    """A copy of a network with fresh weights: what the architecture does without having learned anything.

    Every module draws its parameters anew as its own `reset_parameters` does. Parameters of modules that have none (a
    position embedding, say) keep their values in a random order: the distribution stays, what was learned goes.

    Args:
        net: the network; it is left alone.
        seed: of the draws; the global random state is put back.
    """
    module = copy.deepcopy(as_module(net))
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    module.cpu()  # an accelerator's generator would draw others
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for m in module.modules():
            reset = getattr(m, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                for p in m.parameters(recurse=False):
                    p.copy_(p.flatten()[torch.randperm(p.numel())].view_as(p))
    name = net.name if isinstance(net, Network) else ""
    return as_given(net, module.to(device), f"{name}, untrained (seed {seed})")


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
