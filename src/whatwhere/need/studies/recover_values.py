"""The values at a site in the place of pictures: each picture goes through a frozen prefix once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whatwhere.data import Split
from whatwhere.data.memory import memory_budget
from whatwhere.graph.halves import Halves
from whatwhere.lab.progress import Meter
from whatwhere.network import Network, Preprocessing
from whatwhere.site import evaluating

BATCH = 64


class Values(Split):
    """The pictures of a split, of which only the values at a site are left.

    Args:
        split: the pictures; labels, classes and fingerprint are theirs.
        values: (N, ...), of each picture.
    """

    def __init__(self, split: Split, values: Tensor) -> None:
        super().__init__(split.name, split.source, split.labels, split.classes)
        self.values = values

    def whole(self, geometry: Preprocessing | None = None) -> Tensor:
        """The values."""
        return self.values

    def _serve(self, batches: Sequence[Tensor], geometry: Preprocessing | None) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in batches:
            yield self.values[rows], self.labels[rows]


@dataclass(frozen=True)
class AsTheyAre(Preprocessing):
    """Of values that come out of a network."""

    def normalise(self, images: Tensor) -> Tensor:
        """The values."""
        return images


@dataclass(frozen=True)
class Behind:
    """What lies behind a site, and what goes there.

    Attributes:
        net: from the values at the site to scores; its layers are those of the network.
        whole: the network.
        halves: of it.
    """

    net: Network
    whole: Network
    halves: Halves

    def values(self, split: Split) -> Tensor:
        """(N, ...): what the pictures of a split are at the site, without augmentation."""
        return joined(self._of_batches(split), split, f"{self.whole.name}, up to the site")

    def _of_batches(self, split: Split) -> Iterator[Tensor]:
        for images, _ in split.batches(BATCH, geometry=self.whole.preprocessing):
            yield self.halves.values(self.whole.prepared(images))


def behind(net: Network, halves: Halves, splits: Iterable[Split]) -> Behind | None:
    """What lies behind a site, where it can be trained alone, and the values of all pictures fit into memory.

    Args:
        net: the network.
        halves: of it.
        splits: of pictures.
    """
    shape = halves.flow.shapes[halves.cut][1:]
    if not fits(sum(map(len, splits)), shape):
        return None
    tail = halves.tail()
    return None if tail is None else Behind(_network(tail, net), net, halves)


def _network(tail: nn.Module, net: Network) -> Network:
    # With a size, nothing is asked of the module: it takes no pictures, whose channels it could say.
    return Network(tail, AsTheyAre(), net.name, input_size=(3, 1, 1))


def scores_of(net: Network, split: Split) -> Tensor:
    """(N, classes): what a network says of every picture, in evaluation mode."""

    def batches() -> Iterator[Tensor]:
        with evaluating(net.module):
            for images, _ in split.batches(BATCH, geometry=net.preprocessing):
                yield net.module(net.prepared(images)).float()

    return joined(batches(), split, f"{net.name}, scores")


def in_parts(work: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """What becomes of values (N, ...), a batch at a time, on the CPU."""
    with torch.no_grad():
        return torch.cat([work(part).cpu() for part in values.split(BATCH)])


def fits(pictures: int, shape: Sequence[int]) -> bool:
    """Whether a value of a shape for each picture fits into memory."""
    return 4 * pictures * int(torch.Size(shape).numel()) <= memory_budget()


def joined(parts: Iterable[Tensor], split: Split, title: str) -> Tensor:
    """Values of batches, one below the other, on the CPU."""
    found: list[Tensor] = []
    with Meter(title, len(split)) as meter:
        for part in parts:
            found.append(part.detach().cpu())
            meter.advance(len(part))
    return torch.cat(found)
