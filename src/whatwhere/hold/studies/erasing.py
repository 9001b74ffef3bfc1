"""Fit read-outs to features, take their directions out, and measure what is left: the work of the study's cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.data import Data
from whatwhere.hold.features import Group, Reader
from whatwhere.hold.linear import LinearReadOut
from whatwhere.hold.position_out import Subspace, covariance_of, directions_of, projecting, tap_of
from whatwhere.hold.ridge import RidgeFit
from whatwhere.hold.score import Goal, score
from whatwhere.hold.studies.pictures import Pictures, pictures_of, prepared
from whatwhere.hold.targets import Target, brought_to, stack, targets_of
from whatwhere.intervals import Z
from whatwhere.interventions import Intervention
from whatwhere.network import Network
from whatwhere.site import evaluating
from whatwhere.training.scores import check_scores

FIT, HELD_OUT, TEST = range(3)  # which pictures' positions are shuffled how


@dataclass(frozen=True)
class Step:
    """What was measured with some directions taken out.

    Attributes:
        rank: how many.
        variance: share of the features' variance along them.
        spc: by target, of each test picture, read by a read-out that was fitted anew.
        shuffled: likewise, of positions in an order of each picture's own: what finding nothing looks like.
        right: (N,) bool, whether the network recognises each test picture; None where that was not asked.
    """

    rank: int
    variance: float
    spc: dict[str, NDArray[np.float64]]
    shuffled: dict[str, NDArray[np.float64]]
    right: NDArray[np.bool_] | None = None

    @property
    def holds(self) -> bool:
        """Whether some target is read better than shuffled positions are: intervals that do not meet."""
        ends = ((_ends(self.spc[t])[0], _ends(self.shuffled[t])[1]) for t in self.spc)
        return any(low > high for low, high in ends)


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    half = Z * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


@dataclass(frozen=True)
class Erasing:
    """Features of one network at a site, for the pictures that fit, choose the penalty and test.

    Attributes:
        net: the network, where it runs.
        pictures: to fit, to choose and to test.
        site: by name.
        targets: what is read.
        size: of the features.
        seed: of shuffled positions and random directions.
        batch: pictures in a forward pass.
    """

    net: Network
    pictures: Pictures
    site: str
    targets: Sequence[Target]
    size: int
    seed: int
    batch: int

    @cached_property
    def tap(self) -> Any:
        """Where features are read."""
        return tap_of(self.net, self.site, input_size=self.pictures.fit.shape(self.net.preprocessing))[0]

    @cached_property
    def group(self) -> Group:
        """The tap alone."""
        return Group(self.site, (self.tap,))

    @cached_property
    def features(self) -> dict[int, list[Tensor]]:
        """Maps (n, C, size, size) in batches, read once; every round works on these."""
        splits = {FIT: self.pictures.fit, HELD_OUT: self.pictures.held_out, TEST: self.pictures.test}
        with evaluating(self.net.module), Reader(self.net, [self.tap], size=self.size).reading() as read:
            batches = {use: prepared(split, self.net.preprocessing, self.batch) for use, split in splits.items()}
            return {use: [read(x)[self.site] for _, x in there] for use, there in batches.items()}

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the features to fit."""
        return covariance_of(self.features[FIT])

    @property
    def nothing(self) -> Subspace:
        """No direction."""
        return Subspace.of(torch.empty(0, len(self.moments[0])), self.moments[0])

    # ---- what is taken out

    def rounds(self, most: int) -> Iterator[tuple[Subspace, Step]]:
        """Directions of position after no, one, two ... rounds, with what is left; it ends where nothing is."""
        space = self.nothing
        for n in range(most + 1):
            readout = self._fitted(space)
            step = self._step(space, readout)
            yield space, step
            grown = space.with_also(directions_of(readout)[: len(self.targets)])
            if n == most or not step.holds or grown.rank == space.rank:
                return
            space = grown

    def shuffled_directions(self, rank: int) -> Subspace:
        """As many directions of read-outs of shuffled positions, each of a shuffle of its own."""
        space, n = self.nothing, 0
        while space.rank < rank and n < 2 * rank:
            n += 1
            fresh = directions_of(self._fitted(space, shuffle=n))[len(self.targets) :]
            space = space.with_also(fresh[: rank - space.rank])
        return space

    def random_directions(self, rank: int, draw: int) -> Subspace:
        """As many directions at random."""
        return Subspace.random(rank, self.moments[0], self.seed + 1 + draw)

    # ---- what is left

    def measured(self, space: Subspace) -> Step:
        """What is left of position and of the task."""
        return self._step(space, self._fitted(space))

    def _step(self, space: Subspace, readout: LinearReadOut) -> Step:
        found = self._spc(space, readout)
        names = [t.name for t in self.targets]
        plain, shuffled = found[: len(names)], found[len(names) :]
        return Step(
            space.rank,
            space.share_of(self.moments[1]) if space.rank else 0.0,
            dict(zip(names, plain, strict=True)),
            dict(zip(names, shuffled, strict=True)),
            self._right(space),
        )

    def _fitted(self, space: Subspace, shuffle: int = 0) -> LinearReadOut:
        """A 1 x 1 read-out of the targets, and of the same with positions shuffled picture by picture."""
        fit = RidgeFit(self.group, [*self.targets, *self.targets], kernel=1, size=self.size)
        for maps, goals in self._shown(FIT, space, shuffle):
            fit.add({self.site: maps}, goals)
        path = fit.solve()
        for maps, goals in self._shown(HELD_OUT, space, shuffle):
            path.add({self.site: maps}, goals)
        return path.best()

    def _shown(self, use: int, space: Subspace, shuffle: int) -> Iterator[tuple[Tensor, Tensor]]:
        flat = stack(self.targets, self.size).flatten(1)
        seen = 0
        for maps in self.features[use]:
            orders = [self._order(use, seen + i, shuffle) for i in range(len(maps))]
            goals = torch.stack([torch.cat([flat, flat[:, order]]) for order in orders])
            seen += len(maps)
            yield space.removed_from(maps.double()), goals.unflatten(2, (self.size, self.size))

    def _order(self, use: int, picture: int, shuffle: int) -> Tensor:
        seed = ((self.seed * 1009 + shuffle) * 3 + use) * 1_000_003 + picture
        return torch.randperm(self.size**2, generator=torch.Generator().manual_seed(seed))

    def _spc(self, space: Subspace, readout: LinearReadOut) -> list[NDArray[np.float64]]:
        """Of each target, then of each with shuffled positions, over the test pictures at their own size."""
        side, count = max(self.pictures.test.shape(self.net.preprocessing)[1:]), len(self.targets)
        plain = [Goal.of(t) for t in stack(self.targets, side)]
        found: list[list[NDArray[np.float64]]] = [[] for _ in range(2 * count)]
        for maps, goals in self._shown(TEST, space, 0):
            whole = brought_to(readout.predict({self.site: maps}), side)
            wanted = [*plain, *(Goal.of(g) for g in brought_to(goals[:, count:], side).unbind(1))]
            for t, goal in enumerate(wanted):
                found[t].append(score(whole[:, t], goal).spc)
        return [np.concatenate(parts) for parts in found]

    def _right(self, space: Subspace) -> NDArray[np.bool_] | None:
        test = self.pictures.test
        if not test.classes:
            return None
        found = []
        with evaluating(self.net.module), self.projecting(space):
            for images, labels in test.batches(self.batch, geometry=self.net.preprocessing):
                scores = self.net.module(self.net.prepared(images))
                check_scores(scores, labels)
                found.append((scores.argmax(1).cpu() == labels).numpy())
        return np.concatenate(found)

    def projecting(self, space: Subspace) -> Intervention:
        """The intervention that takes directions out of the running network."""
        return projecting(self.net, self.tap.site, space)


def without_position(
    net: Network,
    site: str,
    data: Data,
    *,
    targets: Sequence[str] = ("H", "V"),
    rounds: int = 1,
    pictures: int = 300,
    size: int = 28,
    seed: int = 0,
    batch_size: int = 32,
) -> Intervention:
    """Take position out of the features that leave a site, for a while.

    >>> with ww.hold.without_position(net, "layer4", data):      # H and V, one round: two directions
    ...     ww.evaluate(net, data)

    A 1 x 1 read-out of position is fitted to pictures, and the directions it uses are projected out of the features at
    every position, whose mean stays; so often as `rounds` says, or until none is left to be read. Prefix tokens stay as
    they are. Whether position is gone, and what as many other directions would have done, `ww.hold.without` measures.

    Args:
        net: the network; it is not changed, and comes back bit-identical when the block ends.
        site: whose output is projected.
        data: pictures to fit to; labels are not needed. Of a `Data` with a split `train` that one.
        targets: what is read: H, V, G, HS, VS.
        rounds: of fitting and projecting.
        pictures: at most this many.
        size: height and width of the features that are read.
        seed: of the division of the pictures.
        batch_size: pictures in a forward pass.

    Returns:
        A context manager.

    Raises:
        InputError: for a site that names none or several, or whose output cannot be projected.
    """
    chosen = pictures_of(data, None, pictures, pictures, seed)
    erasing = Erasing(net, chosen, site, targets_of(targets), size, seed, batch_size)
    space = erasing.nothing
    for _ in range(rounds):
        space = space.with_also(directions_of(erasing._fitted(space))[: len(erasing.targets)])
    return erasing.projecting(space)
