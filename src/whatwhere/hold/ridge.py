"""The closed-form read-out: ridge regression on shifted features, solved for all targets and penalties at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.hold.features import Tap, joined
from whatwhere.hold.moments import Moments
from whatwhere.hold.targets import Target, stack

PENALTIES = torch.logspace(-8, 2, 31, dtype=torch.float64)
MOST_COLUMNS = 14_000  # 1.5 GiB of products in float64, six times that while they are solved


@dataclass(frozen=True)
class Group:
    """Taps that are read together.

    Attributes:
        name: how results call it: a tap's name, or `all`.
        taps: in order.
    """

    name: str
    taps: tuple[Tap, ...]

    @property
    def channels(self) -> int:
        """Of all taps together."""
        return sum(t.channels for t in self.taps)


@dataclass(frozen=True)
class LinearReadOut:
    """A fitted read-out: one convolution to one map for each target.

    Attributes:
        group: what it reads.
        kernel: k.
        padding: zeros around the features.
        weight: (T, C, k, k).
        bias: (T,).
        penalty: (T,) the chosen penalties, on standardised columns and a mean squared error.
    """

    group: Group
    kernel: int
    padding: int
    weight: Tensor
    bias: Tensor
    penalty: tuple[float, ...] = ()

    def predict(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Maps by tap, (N, C, H, W), to predictions (N, T, h, w)."""
        return functional.conv2d(
            joined(dict(maps), self.group.taps).float(), self.weight, self.bias, padding=self.padding
        )


class RidgeFit:
    """Gathers what ridge regression needs in one pass, then solves for all targets.

    >>> fit = RidgeFit(group, targets, kernel=3)
    >>> for x, held_out in batches: fit.add(maps_of(x), held_out)
    >>> readout = fit.solve()

    The objective is the mean squared error plus penalty · |w|², on columns standardised to unit variance; that is
    scikit-learn's `Ridge(alpha=penalty · rows)` on the standardised design matrix. The penalty is the one with the
    least squared error on the held-out pictures, for each target.
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
        self.group, self.targets, self.kernel, self.padding = group, list(targets), kernel, padding
        self.goals = stack(targets, out)
        self._folds: dict[bool, Moments] = {}

    def add(self, maps: Mapping[str, Tensor], held_out: bool, goals: Tensor | None = None) -> None:
        """Take in a batch of features.

        Args:
            maps: (N, C, size, size) by tap.
            held_out: whether these pictures choose the penalty, instead of fitting.
            goals: (N, T, h, w) the targets of each picture, where they differ (a control); None: the same for all.
        """
        x = joined(dict(maps), self.group.taps)
        if not self._folds:
            shift = x.float().mean((0, 2, 3))
            shape = (x.shape[1], len(self.targets), self.kernel, self.padding, shift)
            self._folds = {False: Moments(*shape), True: Moments(*shape)}
        self._folds[held_out].add(x, self.goals if goals is None else goals)

    def solve(self) -> LinearReadOut:
        """The read-out, with the penalty of each target chosen on the held-out pictures.

        Raises:
            InputError: if there was nothing to fit, or nothing held out.
        """
        if not self._folds or not all(m.rows for m in self._folds.values()):
            raise InputError("the read-out needs pictures to fit and pictures held out; give at least two.")
        fit, held_out = self._folds[False], self._folds[True]
        mean, goal = fit.column_sums / fit.rows, fit.target_sums / fit.rows
        spread = (fit.products.diagonal() / fit.rows - mean**2).clamp_min(0).sqrt()
        # A constant column carries no information; what rounding leaves of its variance must not be blown up.
        useful = spread > 1e-6 * max(float(spread.max()), 1e-12)
        scale = torch.where(useful, 1 / spread.clamp_min(1e-300), 0.0)
        gram, cross, _ = centred(fit, mean, goal, scale)
        values, vectors = eigen(gram)
        inner = vectors.T @ cross
        every = weights_of_penalties(vectors, inner, values)
        best = held_out_losses(centred(held_out, mean, goal, scale), every).argmin(0)
        weight = every[:, best, torch.arange(len(best))] * scale[:, None]
        chosen = PENALTIES[best]
        return self._readout(weight, goal - mean @ weight, fit.shift, chosen)

    def _readout(self, weight: Tensor, bias: Tensor, shift: Tensor, penalty: Tensor) -> LinearReadOut:
        k, c = self.kernel, self.group.channels
        kernels = weight.T.reshape(-1, k * k, c).transpose(1, 2).reshape(-1, c, k, k)
        bias = bias - (kernels.sum((2, 3)) @ shift.double())
        return LinearReadOut(
            self.group, k, self.padding, kernels.float().contiguous(), bias.float(), tuple(penalty.tolist())
        )


def centred(m: Moments, mean: Tensor, goal: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean products of standardised columns, of them with the targets, and of the targets with themselves.

    Args:
        m: the sums of some pictures.
        mean: (columns,) subtracted; of the pictures that are fitted.
        goal: (T,) likewise.
        scale: (columns,) multiplied.
    """
    s, n = m.column_sums, m.rows
    gram = m.products / n
    gram -= torch.outer(s / n, mean)
    gram -= torch.outer(mean, s / n - mean)
    gram *= scale[:, None]
    gram *= scale
    cross = m.cross / n - torch.outer(s / n, goal) - torch.outer(mean, m.target_sums / n - goal)
    own = m.target_products / n - 2 * goal * m.target_sums / n + goal**2
    return gram, cross * scale[:, None], own


def eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix; LAPACK's divide and conquer, by way of SciPy."""
    from scipy.linalg import eigh  # a third faster than torch.linalg.eigh

    values, vectors = eigh(gram.numpy(), driver="evd", overwrite_a=True, check_finite=False)
    return torch.from_numpy(values), torch.from_numpy(vectors)


def weights_of_penalties(vectors: Tensor, inner: Tensor, values: Tensor) -> Tensor:
    """The solutions for every penalty from one eigendecomposition, (columns, penalties, T)."""
    shrunk = inner[:, None] / (values.clamp_min(0)[:, None, None] + PENALTIES[:, None])
    return (vectors @ shrunk.flatten(1)).view(shrunk.shape)


def held_out_losses(held_out: tuple[Tensor, Tensor, Tensor], weights: Tensor) -> Tensor:
    """Mean squared error on held-out pictures, (penalties, T), of weights (columns, penalties, T)."""
    gram, cross, own = held_out
    seen = (gram @ weights.flatten(1)).view(weights.shape)
    return own - 2 * (weights * cross[:, None]).sum(0) + (weights * seen).sum(0)


def output_size(size: int, kernel: int, padding: int) -> int:
    """Height and width of what a read-out puts out.

    Raises:
        InputError: for a kernel or a padding that makes no sense on features of this size.
    """
    if not isinstance(kernel, int) or kernel < 1 or padding < 0:
        raise InputError(f"kernel={kernel}, padding={padding}: give a kernel from 1 (1, 3, 5, 7) and a padding from 0.")
    out = size + 2 * padding - kernel + 1
    if out < 2:
        raise InputError(f"kernel={kernel} on maps of {size} x {size} leaves {out}; give a smaller kernel.")
    return out
