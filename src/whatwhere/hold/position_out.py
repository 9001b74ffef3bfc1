"""Take position out: the directions that a linear read-out of position uses are projected out of features.

A 1 x 1 read-out of T targets is T directions in the space of channels. Where features are projected onto what is
orthogonal to them, that read-out gives the same everywhere. Another one, fitted anew, often still finds position: so
directions are collected round by round, as by iterative nullspace projection [ravfogel2020].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.hold.features import Tap, taps_of
from whatwhere.hold.linear import LinearReadOut
from whatwhere.interventions import Intervention, When
from whatwhere.network import Network, as_module
from whatwhere.site import Site

DEPENDENT = 1e-6  # of a direction's length: what is left of one that others span


@dataclass(frozen=True)
class Subspace:
    """Directions in the space of a site's channels.

    Attributes:
        basis: (R, C), orthonormal, float64.
        mean: (C,), the features' mean, which stays.
    """

    basis: Tensor
    mean: Tensor

    @property
    def rank(self) -> int:
        """How many directions there are."""
        return len(self.basis)

    @staticmethod
    def of(directions: Tensor, mean: Tensor) -> Subspace:
        """What some directions span.

        Args:
            directions: (any number, C), of any length.
            mean: (C,) of the features.
        """
        return Subspace(torch.empty(0, len(mean), dtype=torch.float64), mean.double()).with_also(directions)

    def with_also(self, directions: Tensor) -> Subspace:
        """The space that further directions (any number, C) span together with these."""
        basis = list(self.basis)
        for given in directions.double():
            left = given.clone()
            for _ in range(2):  # twice is enough, once leaves rounding
                for known in basis:
                    left = left - (left @ known) * known
            if float(left.norm()) > DEPENDENT * float(given.norm()):
                basis.append(left / left.norm())
        return Subspace(torch.stack(basis) if basis else self.basis, self.mean)

    def removed_from(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) whose part along the directions is that of the mean, everywhere."""
        if not self.rank:
            return maps
        basis, mean = self.basis.to(maps), self.mean.to(maps)
        along = torch.einsum("rc,nchw->nrhw", basis, maps - mean[:, None, None])
        return maps - torch.einsum("rc,nrhw->nchw", basis, along)

    def share_of(self, covariance: Tensor) -> float:
        """The share of the features' variance that is along the directions, from their (C, C) covariance."""
        return float((self.basis @ covariance * self.basis).sum() / covariance.trace())

    @staticmethod
    def random(rank: int, mean: Tensor, seed: int) -> Subspace:
        """As many directions, uniformly at random: the control.

        Raises:
            InputError: for more than there are channels.
        """
        if rank > len(mean):
            raise InputError(f"rank={rank}: the features have {len(mean)} channels; give at most as many directions.")
        drawn = torch.randn(rank, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return Subspace.of(drawn, mean)


def directions_of(readout: LinearReadOut) -> Tensor:
    """The directions (T, C) that a 1 x 1 read-out uses.

    Raises:
        InputError: for a larger kernel, whose neighbours no projection at one position reaches.
    """
    if readout.kernel != 1:
        raise InputError(
            f"a {readout.kernel}x{readout.kernel} read-out: its weights are of a position and its neighbours, and a "
            "projection acts at each position alone; give a 1 x 1 read-out."
        )
    return readout.weight[:, :, 0, 0]


def projecting(
    net: nn.Module | Network, site: str | Site, subspace: Subspace, *, when: When = "always"
) -> Intervention:
    """Project, for a while, the maps that leave a site.

    >>> with ww.hold.projecting(net, "layer3", space):
    ...     ww.evaluate(net, data)

    Args:
        net: the network; it is not changed, and comes back bit-identical when the block ends.
        site: whose output is projected; prefix tokens (class, registers) stay as they are.
        subspace: what is taken out.
        when: in training and evaluation, or in one of them.

    Raises:
        InputError: for a site whose output is no map, or laid out otherwise than its input, or of another number of
            channels.
    """
    place = one_site(net, site) if isinstance(site, str) else site
    channels = len(subspace.mean)

    def change(maps: Tensor) -> Tensor:
        if maps.shape[1] != channels:
            raise InputError(
                f"site={place.name!r} gives maps of {maps.shape[1]} channels, and the directions are of {channels}."
            )
        return subspace.removed_from(maps)

    return Intervention(as_module(net), {}, outputs={place: change}, when=when)


def one_site(net: nn.Module | Network, name: str, *, input_size: tuple[int, int, int] | None = None) -> Site:
    """A site whose output can be projected.

    Args:
        net: the network.
        name: of one site.
        input_size: (C, H, W) of one input.

    Raises:
        InputError: for none or several, or where the output is laid out otherwise than the input.
    """
    return tap_of(net, name, input_size=input_size)[1]


def tap_of(net: nn.Module | Network, name: str, *, input_size: tuple[int, int, int] | None = None) -> tuple[Tap, Site]:
    """Where features are read, and the site whose output they are; as `one_site`."""
    taps = taps_of(net, name, input_size=input_size)
    if len(taps) != 1 or taps[0].site is None:
        listed = ", ".join(t.name for t in taps[:8])
        raise InputError(f"site={name!r} names {len(taps)} sites ({listed}); give the name of one.")
    site = taps[0].site
    if site.layout != "NCHW" and (site.shape is None or site.shape[1:] != site.shape_in[1:]):
        raise InputError(
            f"site={name!r} gives a map of another size than it takes, as {site.layout}; give the site behind."
        )
    return taps[0], site


def covariance_of(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C) of features over all positions of maps (N, C, H, W), float64."""
    count, sums, products = 0, torch.zeros(()), torch.zeros(())
    for maps in batches:
        flat = maps.double().movedim(1, -1).flatten(0, -2)
        count, sums, products = count + len(flat), sums + flat.sum(0), products + flat.T @ flat
    mean = sums / count
    return mean, products / count - torch.outer(mean, mean)
