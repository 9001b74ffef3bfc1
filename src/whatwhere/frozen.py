"""Parts of a network that a training leaves as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Frozen:
    """What stays bit for bit as it is, running statistics included.

    Attributes:
        modules: by name, kept in evaluation mode with all that they hold; names that a network lacks are passed over.
        parameters: by name, which take no gradient; likewise.
    """

    modules: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()

    @contextmanager
    def held(self, module: nn.Module) -> Iterator[None]:
        """The parameters take no gradient in the block; afterwards each is as it was."""
        named = dict(module.named_parameters(remove_duplicate=False))
        kept = [named[name] for name in self.parameters if name in named and named[name].requires_grad]
        for p in kept:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in kept:
                p.requires_grad_(True)

    def train(self, module: nn.Module) -> None:
        """Put all other modules in training mode."""
        module.train()
        named = dict(module.named_modules())
        for name in self.modules:
            if name in named:
                named[name].eval()

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values: the names, in whatever order they were given, sorted."""
        return {"modules": sorted(self.modules), "parameters": sorted(self.parameters)}


NOTHING = Frozen()
