"""The closed-form read-out: ridge regression on shifted features, solved for all targets and penalties at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.hold.features import Group, InParts, joined
from whatwhere.hold.kept import inverse_spread
from whatwhere.hold.linear import LinearReadOut, convolved
from whatwhere.hold.moments import Moments, columns_of
from whatwhere.hold.rational import solutions
from whatwhere.hold.targets import Target, stack

PENALTIES = torch.logspace(-8, 2, 31, dtype=torch.float64)
MOST_COLUMNS = 14_000  # 1.5 GiB of products in float64, which are factored where they lie
CHECKED = 4  # held-out pictures whose losses are computed from products as well
BELIEVED = 0.01  # the largest difference of a loss from products and the same loss from predictions, as a share of it


class RidgeFit:
    """Gathers what ridge regression needs in one pass, then solves for all targets and penalties.

    >>> fit = RidgeFit(group, targets, kernel=3)
    >>> for x in pictures: fit.add(maps_of(x))
    >>> path = fit.solve()                              # a solution for every penalty
    >>> for x in held_out: path.add(maps_of(x))
    >>> readout = path.best()                           # the one that predicts the held-out pictures best

    The objective is the mean squared error plus penalty · `|w|²`, on columns standardised to unit variance; that is
    scikit-learn's `Ridge(alpha=penalty · rows)` on the standardised design matrix.
    """

    def __init__(
        self, group: Group, targets: Sequence[Target], *, kernel: int = 1, padding: int = 0, size: int = 28
    ) -> None:
        """Set up empty sums.

        Args:
            group: what is read together.
            targets: what is read out.
            kernel: k of the k x k convolution.
            padding: zeros around the features.
            size: height and width of the features.

        Raises:
            InputError: for a kernel that does not fit, or so many columns that their products would not.
        """
        out = output_size(size, kernel, padding)
        columns = group.channels * kernel * kernel
        if columns > MOST_COLUMNS:
            raise InputError(
                f"a {kernel}x{kernel} read-out of {group.name} has {columns} columns (channels x kernel²), more than "
                f"{MOST_COLUMNS}; give a smaller kernel or fewer sites."
            )
        self.group, self.targets, self.kernel, self.padding, self.size = group, list(targets), kernel, padding, size
        self.goals = stack(targets, out)
        self._moments: Moments | None = None

    def add(self, maps: Mapping[str, Tensor], goals: Tensor | None = None) -> None:
        """Take in the features of a batch of pictures to fit.

        Args:
            maps: (N, C, h, w) by tap, which are brought to the features' size.
            goals: (N, T, h, w) the targets of each picture, where they differ (a control); None: the same for all.
        """
        x = InParts(maps, self.group.taps, self.size)
        if self._moments is None:
            shift = torch.cat([part.double().mean((0, 2, 3)) for part in x])
            self._moments = Moments(len(self.targets), self.kernel, self.padding, shift)
        self._moments.add(x, self.goals if goals is None else goals)

    def part(self, group: Group) -> RidgeFit:
        """The fit of some of its taps, to the same pictures, without another pass.

        Args:
            group: of taps that this group has.

        Raises:
            InputError: if there was nothing to fit, or this group lacks one of its taps.
        """
        lacking = [t.name for t in group.taps if t not in self.group.taps]
        if lacking:
            raise InputError(f"group {group.name!r}: {self.group.name!r} has no {', '.join(lacking)}.")
        if self._moments is None:
            raise InputError(
                "the read-out has no pictures to fit, or was solved; call part() after add(), before solve()."
            )
        fit = RidgeFit(group, self.targets, kernel=self.kernel, padding=self.padding, size=self.size)
        of = torch.arange(self.group.channels).split([t.channels for t in self.group.taps])
        channels = {tap.name: numbers for tap, numbers in zip(self.group.taps, of, strict=True)}
        fit._moments = self._moments.part(torch.cat([channels[t.name] for t in group.taps]))
        return fit

    def solve(self) -> RidgePath:
        """The solutions for every penalty; what was gathered is given up.

        Raises:
            InputError: if there was nothing to fit.
        """
        if self._moments is None:
            raise InputError("the read-out has no pictures to fit; add some before solve().")
        moments, self._moments = self._moments, None
        return RidgePath(self, moments)


class RidgePath:
    """The solutions of a ridge regression for every penalty; held-out pictures choose among them.

    A penalty counts only where it can be trusted: it is not smaller than the products' own rounding, and the loss that
    the products of the first held-out pictures give for it is the loss of its predictions on them.
    """

    def __init__(self, fit: RidgeFit, moments: Moments) -> None:
        """Solve.

        Args:
            fit: what was asked for.
            moments: of the pictures to fit.
        """
        self.fit, self.shift, self.rows = fit, moments.shift, 0
        self.columns = columns_of(moments.at, fit.group.channels, fit.kernel)  # those that are not zero everywhere
        standard = Standard.of(moments)
        self.inner = self._of_the_centre(moments, standard) if fit.kernel > 1 else None
        weights, self.possible = solutions(*standard.products(moments), PENALTIES)
        self.weight, self.bias = self._unfolded(standard, weights)
        self.losses = torch.zeros(weights.shape[1:], dtype=torch.float64)
        self.trusted = self.possible[:, None].expand_as(self.losses).clone()
        self.spread = (moments.target_products / moments.rows - standard.goal**2).clamp_min(0)
        self.inner_losses = torch.zeros_like(self.losses)
        self.checked = 0

    def _unfolded(self, standard: Standard, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(P·T, C, k, k) kernels and (P·T,) biases on the features as they are, of (columns, P, T)."""
        k, c = self.fit.kernel, self.fit.group.channels
        mean, flat = weights.new_zeros(k * k * c), weights.new_zeros(k * k * c, weights.shape[1] * weights.shape[2])
        mean[self.columns], flat[self.columns] = standard.mean, (weights * standard.scale[:, None, None]).flatten(1)
        kernels = flat.T.reshape(-1, k * k, c).transpose(1, 2).reshape(-1, c, k, k)
        goals = standard.goal.repeat(len(PENALTIES))
        return kernels.contiguous(), goals - mean @ flat - kernels.sum((2, 3)) @ self.shift

    def _of_the_centre(self, moments: Moments, standard: Standard) -> tuple[Tensor, Tensor]:
        """The same of the 1 x 1 read-out at the kernel's centre, which every k x k read-out could be."""
        k, c = self.fit.kernel, len(moments.at)
        row = k // 2
        at = row * (k + 1) * c
        gram, cross, spread = standard.products(moments, slice(at, at + c))
        weights = torch.zeros(k * k * c, len(PENALTIES), cross.shape[1], dtype=torch.float64)
        weights[at : at + c] = solutions(gram, cross, spread, PENALTIES)[0]
        kernels, bias = self._unfolded(standard, weights)
        return kernels[:, :, row : row + 1, row : row + 1].contiguous(), bias

    def add(self, maps: Mapping[str, Tensor], goals: Tensor | None = None) -> None:
        """Predict the maps of held-out pictures with every solution.

        Args:
            maps: (N, C, h, w) by tap, which are brought to the features' size.
            goals: (N, T, h, w) the targets of each picture, where they differ; None: the same for all.
        """
        pictures = len(maps[self.fit.group.taps[0].name])
        wanted = (self.fit.goals.expand(pictures, -1, -1, -1) if goals is None else goals).double()
        some = min(pictures, CHECKED - self.checked)
        losses = self._shown(maps, wanted, range(some))
        if some:
            self._check(self._joined(maps, slice(some)), wanted[:some], losses)
        self.checked += some
        self.losses += losses + self._shown(maps, wanted, range(some, pictures))
        self.rows += pictures * wanted.shape[-1] * wanted.shape[-2]

    def _shown(self, maps: Mapping[str, Tensor], goals: Tensor, rows: range) -> Tensor:
        """Sums of squared errors on some pictures, (P, T), one at a time, as there are P·T maps of each."""
        losses = torch.zeros_like(self.losses)
        for i in rows:
            x, goal = self._joined(maps, slice(i, i + 1)), goals[i]
            losses += self._squared(x, goal, self.weight, self.bias, self.fit.padding)
            if self.inner is not None:
                self.inner_losses += self._squared(self._under_centres(x), goal, *self.inner, 0)
        return losses

    def _joined(self, maps: Mapping[str, Tensor], rows: slice) -> Tensor:
        """The features of some pictures, at the size that is read."""
        taps = self.fit.group.taps
        return joined({t.name: maps[t.name][rows] for t in taps}, taps, self.fit.size)

    def _under_centres(self, x: Tensor) -> Tensor:
        """The features that are under the centre of some window, at which the inner read-out predicts the same map."""
        return functional.pad(x, (self.fit.padding - self.fit.kernel // 2,) * 4)

    def _squared(self, x: Tensor, goal: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        """Sums of squared errors on one picture, (P, T)."""
        predicted = convolved(x, weight, bias, padding)[0].unflatten(0, self.losses.shape)
        return (predicted - goal).square().sum((2, 3))

    def _check(self, x: Tensor, goals: Tensor, losses: Tensor) -> None:
        """Trust no penalty whose loss on these pictures, computed from their products, is not its predictions'."""
        m = Moments(losses.shape[1], self.fit.kernel, self.fit.padding, self.shift)
        m.add(x, goals)
        weights = self.weight[:, m.at].flatten(2).transpose(1, 2).flatten(1).T
        bias = (self.bias + self.weight.sum((2, 3)) @ self.shift).view(losses.shape)
        believed = believed_losses(m, weights.unflatten(1, losses.shape), bias)
        near = (believed - losses / m.rows).abs() <= BELIEVED * losses / m.rows + 1e-9 * self.spread
        self.trusted &= near

    def best(self) -> LinearReadOut:
        """The read-out whose penalty predicts the held-out pictures best, target by target.

        Raises:
            InputError: if no picture was held out, or no penalty can be trusted.
        """
        if not self.rows:
            raise InputError("the read-out needs pictures held out to choose its penalty; add some before best().")
        if not self.trusted.any(0).all():
            raise InputError(
                f"no {self.fit.kernel}x{self.fit.kernel} read-out of {self.fit.group.name} can be trusted: losses from "
                "products and from predictions differ. The features are too large or too small; scale them."
            )
        chosen = self.losses.masked_fill(~self.trusted, torch.inf).argmin(0)
        at = chosen * self.losses.shape[1] + torch.arange(len(chosen))
        loss = self.losses[chosen, torch.arange(len(chosen))] / self.rows
        inner = (self.inner_losses[self.possible].amin(0) / self.rows) if self.inner is not None else loss
        return LinearReadOut(
            self.fit.group,
            self.fit.kernel,
            self.fit.padding,
            self.weight[at],
            self.bias[at],
            tuple(PENALTIES[chosen].tolist()),
            tuple(loss.tolist()),
            tuple(inner.tolist()),
            tuple(self.spread.tolist()),
        )


@dataclass(frozen=True)
class Standard:
    """How columns and targets are standardised: by the pictures that are fitted.

    Attributes:
        mean: (columns,) subtracted.
        goal: (T,) subtracted.
        scale: (columns,) multiplied; 0 where a column is constant.
    """

    mean: Tensor
    goal: Tensor
    scale: Tensor

    @staticmethod
    def of(m: Moments) -> Standard:
        """From the moments; a constant column carries no information, and what rounding leaves of it is left out."""
        mean, goal = m.column_sums / m.rows, m.target_sums / m.rows
        spread = (m.products.diagonal() / m.rows - mean**2).clamp_min(0).sqrt()
        return Standard(mean, goal, inverse_spread(spread, mean, m.shift[m.at].repeat(m.kernel**2)))

    def products(self, m: Moments, part: slice | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean products of standardised columns, of them with the targets, and of the targets with themselves.

        Args:
            m: the moments; where all columns are asked for, their products are given up.
            part: of the columns; None for all.
        """
        gram = m.products if part is None else m.products[part, part].clone()
        part = part or slice(None)
        s, n, mean, scale = m.column_sums[part], m.rows, self.mean[part], self.scale[part]
        gram /= n
        gram.addr_(s / n, mean, alpha=-1)  # in place: another matrix of this size is what memory would not hold
        gram.addr_(mean, s / n - mean, alpha=-1)
        gram *= scale[:, None]
        gram *= scale
        cross = m.cross[part] / n - torch.outer(s / n, self.goal) - torch.outer(mean, m.target_sums / n - self.goal)
        own = m.target_products / n - 2 * self.goal * m.target_sums / n + self.goal**2
        return gram, cross * scale[:, None], own


def believed_losses(m: Moments, weights: Tensor, bias: Tensor) -> Tensor:
    """Mean squared errors (P, T) by the moments alone, of weights (columns, P, T) and biases (P, T)."""
    n, s = m.rows, torch.einsum("c,cpt->pt", m.column_sums, weights)
    seen = (m.products @ weights.flatten(1)).view(weights.shape)
    squares = (weights * seen).sum(0) + 2 * bias * s + n * bias**2
    return (squares - 2 * ((weights * m.cross[:, None]).sum(0) + bias * m.target_sums) + m.target_products) / n


def output_size(size: int, kernel: int, padding: int) -> int:
    """Height and width of what a read-out puts out.

    Raises:
        InputError: for a size, a kernel or a padding that makes no sense.
    """
    if size < 2:
        raise InputError(f"size={size}: give a height and width of the features from 2, such as 28.")
    if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:  # an even one reads half a cell beside its place
        raise InputError(f"kernel={kernel}: give an odd whole number, such as 1, 3, 5 or 7.")
    if padding < 0:
        raise InputError(f"padding={padding}: give a number of zeros on each side, 0 for none.")
    out = size + 2 * padding - kernel + 1
    if out < 2:
        raise InputError(f"kernel={kernel} on maps of {size} x {size} leaves {out} x {out}; give a smaller kernel.")
    return out
